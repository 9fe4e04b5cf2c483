import { expect, test } from 'vitest'
import { heldPrefixes, MAX_HELD_KEYS, MAX_PROMPT_KEYS, promptKeys } from '@copal/shared/wire/prefix.ts'

const keys = (count: number) =>
  Array.from({ length: count }, (_, index) => index.toString(16).padStart(16, '0'))

test('as many keys are taken as a prompt and a node may have, and none more', () => {
  expect(promptKeys.safeParse(keys(MAX_PROMPT_KEYS)).success).toBe(true)
  expect(promptKeys.safeParse(keys(MAX_PROMPT_KEYS + 1)).success).toBe(false)
  const held = (...counts: number[]) => counts.map((count, version) => ({ version, keys: keys(count) }))
  expect(heldPrefixes.safeParse(held(MAX_HELD_KEYS)).success).toBe(true)
  expect(heldPrefixes.safeParse(held(MAX_HELD_KEYS - 2, 1, 1)).success).toBe(true)
  for (const tooMany of [held(MAX_HELD_KEYS + 1), held(MAX_HELD_KEYS - 1, 1, 1)])
    expect(heldPrefixes.safeParse(tooMany).success).toBe(false)
})

test.each(['', 'f'.repeat(15), 'f'.repeat(17), 'F'.repeat(16), `${'f'.repeat(15)}g`])(
  "'%s' is no key",
  (key) => {
    expect(promptKeys.safeParse([key]).success).toBe(false)
    expect(heldPrefixes.safeParse([{ version: 0, keys: [key] }]).success).toBe(false)
  },
)
