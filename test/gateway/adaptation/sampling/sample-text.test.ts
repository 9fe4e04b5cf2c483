import { expect, test } from 'vitest'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { completionRequest } from '@copal/shared/wire/completions.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import {
  truncateSample,
  promptText,
  redactSample,
  userText,
} from '../../../../gateway/src/adaptation/sampling/sample-text.ts'

test('the sample of a chat consists of the user’s messages, separated by blank lines', () => {
  const request = validate(chatRequest, {
    model: 'm',
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'First.' },
      { role: 'assistant', content: 'Answer.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'Sec' },
          { type: 'text', text: 'ond.' },
        ],
      },
    ],
  })
  expect(userText(request.messages)).toBe('First.\n\nSecond.')
})

test('the sample of a completion is its prompt, unless that is token ids', () => {
  expect(promptText(validate(completionRequest, { model: 'm', prompt: 'Once' }))).toBe('Once')
  expect(promptText(validate(completionRequest, { model: 'm', prompt: [1, 2] }))).toBe('')
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
