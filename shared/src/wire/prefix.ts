/**
 * Names of how prompts begin, by which the gateway finds the node that has computed a beginning already.
 *
 * The gateway has no tokenizer, so it names beginnings by length: a key stands for the first 512 units of a prompt, the
 * next for the first 1024, and so on; units are UTF-16 code units, or tokens where the prompt is token ids. Whoever does not
 * know the gateway's secret can neither make a key nor tell from one whose prompt it is of.
 */
import { z } from 'zod'
import { arrayOf } from './bounded.ts'

/** Units that the first key stands for. */
export const FIRST_PREFIX_UNITS = 512

/** Keys of one prompt: the last one stands for half a million units. */
export const MAX_PROMPT_KEYS = 11

/** Keys that a node tells of. */
export const MAX_HELD_KEYS = 256

const prefixKey = z.string().regex(/^[0-9a-f]{16}$/, '16 hexadecimal digits in lower case are expected')

/** Keys of one prompt, shortest beginning first. */
export const promptKeys = arrayOf(prefixKey).max(MAX_PROMPT_KEYS)

/** Beginnings that a node has ready, by the version of the weights that computed them. */
export const heldPrefixes = arrayOf(
  z.object({ version: z.int().min(0), keys: arrayOf(prefixKey).max(MAX_HELD_KEYS) }),
)
  .max(MAX_HELD_KEYS)
  .refine((held) => held.reduce((sum, { keys }) => sum + keys.length, 0) <= MAX_HELD_KEYS, {
    error: `at most ${MAX_HELD_KEYS} keys are possible`,
  })
export type HeldPrefixes = z.output<typeof heldPrefixes>

/** Units that the key at `index` stands for. */
export function prefixUnits(index: number): number {
  return FIRST_PREFIX_UNITS * 2 ** index
}
