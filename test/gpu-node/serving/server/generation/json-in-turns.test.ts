import { expect, test } from 'vitest'
import { arrayAsWritten, asWritten } from '../../../../../gpu-node/src/serving/server/formats/as-written.ts'
import { occupyMs } from '../../../../support/harness/occupy.ts'
import { jsonInTurns } from '../../../../../gpu-node/src/serving/server/generation/json-in-turns.ts'

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index / 7)

test.each<[string, object]>([
  ['nothing', {}],
  ['no elements', { a: [], b: {} }],
  [
    'all kinds of values',
    { a: 'ü"\n\u2028', b: [null, true, 1.5, [2, {}]], c: null, d: undefined, e: [undefined] },
  ],
  ['numbers that JSON does not have', { a: [Number.NaN, Infinity], b: Number.NaN }],
  ['arrays of one piece, one more, and several', { a: numbers(64), b: numbers(65), c: [numbers(1_000)] }],
  [
    'a long array of objects',
    { a: numbers(600).map((value) => ({ value, list: [value], none: undefined })) },
  ],
  ['values with a JSON form of their own', { a: new Date(0), b: [asWritten(() => numbers(100))] }],
  [
    'arrays that are made while they are written',
    {
      a: arrayAsWritten(0, () => []),
      b: [1, arrayAsWritten(130, (from, to) => numbers(130).slice(from, to)), null],
    },
  ],
  [
    'short and long elements beside each other',
    { a: [1, undefined, { b: 2 }, 3, asWritten(() => 4), [5], 6] },
  ],
])('the text is that of JSON.stringify: %s', async (_, value) => {
  expect(await jsonInTurns(value)).toBe(JSON.stringify(value))
})

test('the event loop goes on while a large value is written', async () => {
  const value = { data: Array.from({ length: 256 }, () => ({ embedding: numbers(2_048) })) }
  let turns = 0
  const timer = setInterval(() => (turns += 1), 0)
  const text = await jsonInTurns(value)
  clearInterval(timer)
  expect(turns).toBeGreaterThan(1)
  expect(text).toBe(JSON.stringify(value))
})

test('the elements of a long array are written in turns if they are long', async () => {
  let turns = 0
  const element = () => ({ text: asWritten(() => (occupyMs(2), turns)) })
  const timer = setInterval(() => (turns += 1), 0)
  const text = await jsonInTurns(Array.from({ length: 100 }, element))
  clearInterval(timer)
  const seen = (JSON.parse(text) as { text: number }[]).map((written) => written.text)
  expect(new Set(seen).size).toBeGreaterThan(10)
})
