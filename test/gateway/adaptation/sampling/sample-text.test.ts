import { expect, test } from 'vitest'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { completionRequest } from '@copal/shared/wire/completions.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import {
  truncateSample,
  promptTexts,
  redactSample,
  newMessage,
  openingOf,
} from '../../../../gateway/src/adaptation/sampling/sample-text.ts'

const messagesOf = (messages: readonly object[]) => validate(chatRequest, { model: 'm', messages }).messages
const answer = { role: 'assistant', content: 'Answer.' }
const call = {
  role: 'assistant',
  tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
}

test('of a chat only the newest message of the user is new, and its first message is the opening', () => {
  const messages = messagesOf([
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'First.' },
    answer,
    {
      role: 'user',
      content: [
        { type: 'text', text: 'Sec' },
        { type: 'text', text: 'ond.' },
      ],
    },
  ])
  expect(newMessage(messages)).toEqual([{ text: 'Second.', opening: 'First.' }])
  expect(newMessage([...messages, ...messagesOf([answer])])).toEqual([{ text: 'Second.', opening: 'First.' }])
})

test('nothing is new in a chat without a message of the user, or whose tools answered after it', () => {
  expect(newMessage(messagesOf([{ role: 'system', content: 'Begin.' }]))).toEqual([])
  const asked = [
    { role: 'user', content: 'Call it.' },
    call,
    { role: 'tool', content: '1', tool_call_id: 'c' },
  ]
  expect(newMessage(messagesOf(asked))).toEqual([])
  const next = [...asked, answer, { role: 'user', content: 'Again.' }]
  expect(newMessage(messagesOf(next))).toEqual([{ text: 'Again.', opening: 'Call it.' }])
})

test('a chat without a message of the user opens with its first message', () => {
  expect(openingOf(messagesOf([{ role: 'system', content: 'Begin.' }]))).toBe('Begin.')
})

test('of a completion each text prompt is a conversation, 32 at most, and prompts of token ids are skipped', () => {
  const textsOf = (prompt: unknown) => promptTexts(validate(completionRequest, { model: 'm', prompt }))
  expect(textsOf('Once')).toEqual([{ text: 'Once', opening: 'Once' }])
  expect(textsOf(['Once', 'Twice'])).toEqual([
    { text: 'Once', opening: 'Once' },
    { text: 'Twice', opening: 'Twice' },
  ])
  const many = Array.from({ length: 32 }, (_, index) => `prompt ${index}`)
  expect(textsOf(many)).toHaveLength(32)
  expect(() => textsOf([...many, 'one more'])).toThrow('at most 32')
  expect(textsOf([1, 2])).toEqual([])
})

test('a long text is truncated to 64 KB without splitting a character', () => {
  const text = `a${'💡'.repeat(20_000)}`
  const fitted = truncateSample(text)
  expect(new TextEncoder().encode(fitted).byteLength).toBe(65_533)
  expect(text.startsWith(fitted)).toBe(true)
  expect(fitted.isWellFormed()).toBe(true)
  expect(truncateSample('short')).toBe('short')
})

test('a text that grows when it is escaped still fits into a queue message', () => {
  const fitted = truncateSample('\u0001'.repeat(64 * 1024))
  expect(JSON.stringify(fitted).length).toBeLessThan(100 * 1024)
  expect(fitted.length).toBeGreaterThan(0)
})

test('a sample is redacted before it is truncated, so that it cannot end with half of a secret', () => {
  const filling = 'x '.repeat(32 * 1024 - 6)
  const sample = redactSample(`${filling}jane.doe@example.org`)
  expect(sample).toBe(`${filling}[email]`)
  expect(redactSample(`jane@example.org ${'y'.repeat(1024 * 1024)}`)).toMatch(/^\[email\] y{65000,}$/)
})

test('what is only half in the part of a long text that is redacted is not stored', () => {
  const token = `token eyJ${'a'.repeat(40)}.${'b'.repeat(100)}.${'c'.repeat(60)}\n`
  const address = 'jane.doe@example.com'
  const before = token.repeat(1_000).slice(0, 128 * 1024 - 'x jane.doe'.length)
  const redacted = redactSample(`${before}x ${address} and more`)
  expect(redacted.length).toBeGreaterThan(1_000)
  expect(redacted.length).toBeLessThan(16 * 1024)
  expect(redacted).not.toContain('jane')
})
