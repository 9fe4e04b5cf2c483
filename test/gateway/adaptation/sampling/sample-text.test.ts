import { expect, test } from 'vitest'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { completionRequest } from '@copal/shared/wire/completions.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import {
  fitSample,
  promptText,
  sampleOf,
  userText,
} from '../../../../gateway/src/adaptation/sampling/sample-text.ts'

test('of a chat only what the user wrote is taken, with blank lines between', () => {
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

test('of a completion the prompt is taken, unless it is token ids', () => {
  expect(promptText(validate(completionRequest, { model: 'm', prompt: 'Once' }))).toBe('Once')
  expect(promptText(validate(completionRequest, { model: 'm', prompt: [1, 2] }))).toBe('')
})

test('a long text is cut to 64 KB without splitting a character', () => {
  const text = `a${'💡'.repeat(20_000)}`
  const fitted = fitSample(text)
  expect(new TextEncoder().encode(fitted).byteLength).toBe(65_533)
  expect(text.startsWith(fitted)).toBe(true)
  expect(fitted.isWellFormed()).toBe(true)
  expect(fitSample('short')).toBe('short')
})

test('a text that its escapes would blow up still fits a queue message', () => {
  const fitted = fitSample('\u0001'.repeat(64 * 1024))
  expect(JSON.stringify(fitted).length).toBeLessThan(100 * 1024)
  expect(fitted.length).toBeGreaterThan(0)
})

test('a sample is redacted before it is cut, so that no half of a secret is left at its end', () => {
  const filling = 'x '.repeat(32 * 1024 - 6)
  const sample = sampleOf(`${filling}jane.doe@example.org`)
  expect(sample).toBe(`${filling}[email]`)
  expect(sampleOf(`jane@example.org ${'y'.repeat(1024 * 1024)}`)).toMatch(/^\[email\] y{65000,}$/)
})
