import { expect, test } from 'vitest'
import { conversationKey } from '../../../../gateway/src/fleet/client/conversation-key.ts'
import { isAssigned } from '../../../../gateway/src/fleet/object/trial-assignment.ts'

test('the key of a conversation depends on the API key and on the first message, also where that is token ids', () => {
  const keys = [
    conversationKey('key_1', 'Hello'),
    conversationKey('key_2', 'Hello'),
    conversationKey('key_1', 'Hello!'),
    conversationKey('key_1', [1, 2, 3]),
    conversationKey('key_1', [1, 2, 4]),
    conversationKey('key_1', ''),
  ]
  expect(new Set(keys).size).toBe(keys.length)
  expect(conversationKey('key_1', 'Hello')).toBe(keys[0])
})

test.each([
  ['text', (question: string) => `${'An example. '.repeat(800)}${question}`],
  ['token ids', (question: string) => [...Array.from({ length: 5_000 }, (_, id) => id), Number(question)]],
])(
  'long %s: those that begin alike are conversations of their own, of which a canary gets its share',
  (_, of) => {
    const keys = Array.from({ length: 1_000 }, (__, question) =>
      conversationKey('key_1', of(String(question))),
    )
    expect(new Set(keys).size).toBe(keys.length)
    const answered = keys.filter((key) => isAssigned('canary', { version: 5, share: 0.1 }, 'tiny', key))
    expect(answered.length).toBeGreaterThan(60)
    expect(answered.length).toBeLessThan(140)
  },
)

test('of a long message its ends and its length count', () => {
  const long = (start: string, middle: string, end: string) =>
    conversationKey('key_1', start + 'x'.repeat(3_000) + middle + 'x'.repeat(3_000) + end)
  const key = long('a', 'b', 'c')
  expect([long('A', 'b', 'c'), long('a', 'bb', 'c'), long('a', 'b', 'C')]).not.toContain(key)
  expect(long('a', 'B', 'c')).toBe(key)
})
