import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, embedMany, generateText, streamText } from 'ai'
import { expect, inject, test } from 'vitest'

const service = inject('service')
const provider = createOpenAICompatible({
  name: 'copal',
  baseURL: service.baseUrl,
  apiKey: service.apiKey,
  includeUsage: true,
})
const ask = {
  model: provider('tiny'),
  system: 'be brief',
  prompt: 'the cat sat on the mat',
  temperature: 0,
  maxOutputTokens: 12,
  maxRetries: 0,
}

test('streamText streams the text of generateText, with a finish reason and usage', async () => {
  const whole = await generateText(ask)
  expect(whole.text.length).toBeGreaterThan(0)
  const result = streamText(ask)
  const pieces: string[] = []
  for await (const piece of result.textStream) pieces.push(piece)
  expect(pieces.length).toBeGreaterThan(1)
  expect(pieces.join('')).toBe(whole.text)
  expect(await result.finishReason).toBe(whole.finishReason)
  const usage = await result.usage
  expect(usage.outputTokens).toBe(whole.usage.outputTokens)
  expect(usage.inputTokens).toBe(whole.usage.inputTokens)
})

test('embedMany returns one vector per text, and equal vectors for equal texts', async () => {
  const { embeddings, usage } = await embedMany({
    model: provider.textEmbeddingModel('tiny'),
    values: ['the cat', 'a mat', 'the cat'],
    maxRetries: 0,
  })
  expect(embeddings).toHaveLength(3)
  expect(embeddings[2]).toEqual(embeddings[0])
  expect(embeddings[1]).not.toEqual(embeddings[0])
  expect(usage.tokens).toBeGreaterThan(0)
})

test('embedMany sends as many texts in a request as OpenAI takes', async () => {
  const values = Array.from({ length: 2048 }, (_, index) => `${index % 3}`)
  const { embeddings, responses } = await embedMany({
    model: provider.textEmbeddingModel('tiny'),
    values,
    maxRetries: 0,
  })
  expect(embeddings).toHaveLength(2048)
  expect(responses).toHaveLength(1)
  expect(embeddings[2047]).toEqual(embeddings[2047 % 3])
})

test('an invalid field is an APICallError whose message names the field', async () => {
  const wrong = generateText({ ...ask, temperature: 9 })
  const error = await wrong.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!APICallError.isInstance(error)) throw new Error('expected an APICallError')
  expect([error.statusCode, error.isRetryable]).toEqual([400, false])
  expect(error.message).toContain("'temperature'")
})
