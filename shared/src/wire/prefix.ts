/**
 * Keys of prompt prefixes, by which the gateway finds a node that has already computed a prefix.
 *
 * The gateway has no tokenizer, so it cuts prefixes by length: the first key stands for the first 512 units of a prompt,
 * the next for the first 1024, and so on. Units are UTF-16 code units, or tokens where the prompt is token ids. Without the
 * gateway's secret nobody can create a key or learn from it whose prompt it belongs to.
 */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'

/** Length of the prefix that the first key stands for. */
export const FIRST_PREFIX_UNITS = 512

/** Maximum keys of one prompt; the last stands for half a million units. */
export const MAX_PREFIX_KEYS = 11

/** Maximum keys in a heartbeat. */
export const MAX_CACHED_KEYS = 256

const prefixKey = z.string().regex(/^[0-9a-f]{16}$/, 'expected 16 lower-case hexadecimal digits')

/** Keys of one prompt, shortest prefix first. */
export const promptPrefixKeys = boundedArray(prefixKey).max(MAX_PREFIX_KEYS)

/** Prefixes in the cache of a node, by the mask version that computed them. */
export const nodePrefixes = boundedArray(
  z.object({ version: z.int().min(0), keys: boundedArray(prefixKey).max(MAX_CACHED_KEYS) }),
)
  .max(MAX_CACHED_KEYS)
  .refine((versions) => versions.reduce((sum, { keys }) => sum + keys.length, 0) <= MAX_CACHED_KEYS, {
    error: `expected at most ${MAX_CACHED_KEYS} keys`,
  })
/** Prefixes in the cache of a node. */
export type NodePrefixes = z.output<typeof nodePrefixes>

/** Returns the length of the prefix that the key at `index` stands for. */
export function prefixUnits(index: number): number {
  return FIRST_PREFIX_UNITS * 2 ** index
}
