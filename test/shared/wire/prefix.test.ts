import { expect, test } from 'vitest'
import {
  nodePrefixes,
  MAX_CACHED_KEYS,
  MAX_PREFIX_KEYS,
  promptPrefixKeys,
} from '@copal/shared/wire/prefix.ts'

const keys = (count: number) =>
  Array.from({ length: count }, (_, index) => index.toString(16).padStart(16, '0'))

test('a prompt and a node have a maximum number of keys', () => {
  expect(promptPrefixKeys.safeParse(keys(MAX_PREFIX_KEYS)).success).toBe(true)
  expect(promptPrefixKeys.safeParse(keys(MAX_PREFIX_KEYS + 1)).success).toBe(false)
  const held = (...counts: number[]) => counts.map((count, version) => ({ version, keys: keys(count) }))
  expect(nodePrefixes.safeParse(held(MAX_CACHED_KEYS)).success).toBe(true)
  expect(nodePrefixes.safeParse(held(MAX_CACHED_KEYS - 2, 1, 1)).success).toBe(true)
  for (const tooMany of [held(MAX_CACHED_KEYS + 1), held(MAX_CACHED_KEYS - 1, 1, 1)])
    expect(nodePrefixes.safeParse(tooMany).success).toBe(false)
})

test.each(['', 'f'.repeat(15), 'f'.repeat(17), 'F'.repeat(16), `${'f'.repeat(15)}g`])(
  "'%s' is no key",
  (key) => {
    expect(promptPrefixKeys.safeParse([key]).success).toBe(false)
    expect(nodePrefixes.safeParse([{ version: 0, keys: [key] }]).success).toBe(false)
  },
)
