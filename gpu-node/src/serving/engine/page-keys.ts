import { hash } from 'node:crypto'
import { PAGE_TOKENS } from '../contract/backend.ts'

/**
 * Returns the keys of the first `count` pages of a text. Each key is a SHA-256 over the partition and every token up to
 * the end of its page, so equal keys mean equal content, and pages of different partitions never share a key.
 *
 * @param known keys of the text's first pages, as far as they were computed before
 */
export function pageKeys(
  partition: string,
  tokens: readonly number[],
  count: number,
  known: readonly string[] = [],
): string[] {
  const keys = known.slice(0, count)
  while (keys.length < count) {
    const before = keys.at(-1) ?? hash('sha256', partition, 'base64')
    const from = keys.length * PAGE_TOKENS
    keys.push(hash('sha256', `${before}:${tokens.slice(from, from + PAGE_TOKENS).join()}`, 'base64'))
  }
  return keys
}
