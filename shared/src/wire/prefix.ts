/**
 * Names of how prompts begin, by which the gateway finds the node that has computed a beginning already.
 *
 * The gateway has no tokenizer, so it names beginnings by length: a key stands for the first 512 units of a prompt, the
 * next for the first 1024, and so on; units are UTF-16 code units, or tokens where the prompt is token ids. Whoever does not
 * know the gateway's secret can neither make a key nor tell from one whose prompt it is of.
 */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'

/** Units that the first key stands for. */
export const FIRST_PREFIX_UNITS = 512

/** Keys of one prompt: the last one stands for half a million units. */
export const MAX_PREFIX_KEYS = 11

/** Keys that a node tells of. */
export const MAX_CACHED_KEYS = 256

const prefixKey = z.string().regex(/^[0-9a-f]{16}$/, '16 hexadecimal digits in lower case are expected')

/** Keys of one prompt, shortest beginning first. */
export const promptPrefixKeys = boundedArray(prefixKey).max(MAX_PREFIX_KEYS)

/** Beginnings that a node has ready, by the version of the weights that computed them. */
export const nodePrefixes = boundedArray(
  z.object({ version: z.int().min(0), keys: boundedArray(prefixKey).max(MAX_CACHED_KEYS) }),
)
  .max(MAX_CACHED_KEYS)
  .refine((held) => held.reduce((sum, { keys }) => sum + keys.length, 0) <= MAX_CACHED_KEYS, {
    error: `at most ${MAX_CACHED_KEYS} keys are possible`,
  })
export type NodePrefixes = z.output<typeof nodePrefixes>

/** Units that the key at `index` stands for. */
export function prefixUnits(index: number): number {
  return FIRST_PREFIX_UNITS * 2 ** index
}
