import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { boundedArray, boundedRecord } from '@copal/shared/wire/bounded-collections.ts'
import { chatRequest } from '@copal/shared/wire/chat.ts'
import { completionRequest } from '@copal/shared/wire/completions.ts'
import { embeddingsRequest } from '@copal/shared/wire/embeddings.ts'
import { receiptBatch } from '@copal/shared/wire/receipts.ts'
import { responsesRequest } from '@copal/shared/wire/responses.ts'

/** Records which elements a schema parses. */
function watched() {
  const seen: number[] = []
  const element = z.number().refine((value) => seen.push(value) > 0 && value >= 0, 'negative')
  return { seen, element }
}

test('an array stops at its first wrong element and reports only that', () => {
  const { seen, element } = watched()
  const { error } = boundedArray(element).safeParse([1, 2, -3, -4, 5])
  expect(error?.issues).toMatchObject([{ path: [2], message: 'negative' }])
  expect(seen).toEqual([1, 2, -3])
})

test('an array parses only the elements that are not known to be valid', () => {
  const { seen, element } = watched()
  const schema = boundedArray(element, (item) => item === 1)
  expect(schema.parse([1, 2, 1])).toEqual([1, 2, 1])
  expect(schema.safeParse([1, 1, -3, 4]).error?.issues).toMatchObject([{ path: [2], message: 'negative' }])
  expect(seen).toEqual([2, -3])
})

test('checks after a wrong array see only the elements that were parsed', () => {
  const names: string[] = []
  const schema = boundedArray(z.object({ name: z.string().max(3) })).refine((list) => {
    for (const { name } of list) names.push(name)
    return true
  })
  const { error } = schema.safeParse([{ name: 'a' }, { name: 'long' }, null])
  expect(error?.issues).toMatchObject([{ path: [1, 'name'] }])
  expect(names).toEqual(['a', 'long'])
})

test('an array that is too long is rejected without parsing elements or running later checks', () => {
  const { seen, element } = watched()
  const schema = boundedArray(element)
    .min(1)
    .max(3)
    .refine(() => seen.push(0) > 0)
  expect(schema.safeParse([1, 2, 3, 4]).error?.issues).toMatchObject([{ code: 'too_big', path: [] }])
  expect(seen).toEqual([])
  expect(schema.parse([1, 2, 3])).toEqual([1, 2, 3])
})

test('an array has the parsed elements and the JSON Schema of any array', () => {
  const element = z.object({ a: z.string().default('x') })
  expect(
    boundedArray(element)
      .describe('All.')
      .parse([{}, { a: 'y', b: 1 }]),
  ).toEqual([{ a: 'x' }, { a: 'y' }])
  expect(boundedArray(element).safeParse({ length: 1 }).success).toBe(false)
  const schemaOf = (list: z.ZodArray) => z.toJSONSchema(list.min(1).max(3).describe('All.'), { io: 'input' })
  expect(schemaOf(boundedArray(element))).toEqual(schemaOf(z.array(element)))
  expect(schemaOf(boundedArray(element))).toMatchObject({
    minItems: 1,
    maxItems: 3,
    items: { type: 'object' },
  })
})

test('a record with too many entries is rejected without parsing any', () => {
  const { seen, element } = watched()
  const record = z.record(z.string(), element)
  const { error } = boundedRecord(1, 'pairs', record).safeParse({ a: 1, b: -1 })
  expect(error?.issues).toMatchObject([{ path: [], message: 'expected at most 1 pairs' }])
  expect(seen).toEqual([])
  expect(boundedRecord(1, 'pairs', record).parse({ a: 1 })).toEqual({ a: 1 })
  const schemaOf = (schema: z.ZodType) => z.toJSONSchema(schema, { io: 'input' })
  expect(schemaOf(boundedRecord(1, 'pairs', record).nullish())).toEqual(schemaOf(record.nullish()))
})

const many = <T>(value: T, length = 100_000): T[] => Array.from({ length }, () => value)
const pairs = (value: unknown) => Object.fromEntries(many(value, 40_000).map((each, index) => [index, each]))
const say = (content: unknown) => ({ role: 'user', content })
const chat = (fields: object) => ({ model: 'tiny', messages: [say('hi')], ...fields })

describe('a body with many errors makes few issues', () => {
  test.each<[string, z.ZodType, object]>([
    ['token ids', completionRequest, { model: 'tiny', prompt: many(-1) }],
    ['lists of token ids', completionRequest, { model: 'tiny', prompt: many(many(-1, 10_000), 16) }],
    ['empty texts', completionRequest, { model: 'tiny', prompt: many('') }],
    ['texts', embeddingsRequest, { model: 'tiny', input: many(true) }],
    ['messages', chatRequest, chat({ messages: many({}) })],
    ['parts of a message', chatRequest, chat({ messages: [say(many(1))] })],
    ['parts of many messages', chatRequest, chat({ messages: many(say(many(1, 200)), 1000) })],
    ['calls', chatRequest, chat({ messages: [{ role: 'assistant', tool_calls: many(1) }] })],
    ['biases', chatRequest, chat({ logit_bias: pairs('x') })],
    ['metadata', chatRequest, chat({ metadata: pairs(1) })],
    ['items', responsesRequest, { model: 'tiny', input: many(1) }],
    ['parts of an item', responsesRequest, { model: 'tiny', input: [say(many(1))] }],
    ['inclusions', responsesRequest, { model: 'tiny', input: 'hi', include: many('x') }],
    ['receipts', receiptBatch, { nodeId: 'n', receipts: many({}) }],
  ])('%s', (_, schema, body) => {
    const { error } = schema.safeParse(body)
    expect(error?.issues.length).toBeGreaterThan(0)
    expect(JSON.stringify(error?.issues).length).toBeLessThan(10_000)
  })
})
