import { expect, test } from 'vitest'
import { conversationKey } from '../../../../gateway/src/fleet/client/conversation-key.ts'

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

test('only the first 4,096 characters of a first message count', () => {
  const long = 'x'.repeat(4_096)
  expect(conversationKey('key_1', `${long}one`)).toBe(conversationKey('key_1', `${long}other`))
  expect(conversationKey('key_1', long.slice(1))).not.toBe(conversationKey('key_1', long))
})
