import { expect, test } from 'vitest'
import { sampleSequences } from '../../../../gpu-node/src/pruning/calibration/token-sequences.ts'
import type { TextCodec } from '../../../../gpu-node/src/model/tokenizer/text-codec.ts'

/** A codec with one token per character, its code, and without a BOS token. */
const encode = (text: string) => Array.from(text, (char) => char.codePointAt(0)!)
const codec: Pick<TextCodec, 'encode' | 'encodeDocument'> = { encode, encodeDocument: encode }
const sample = (texts: string[], options: Partial<Parameters<typeof sampleSequences>[2]> = {}) =>
  sampleSequences(texts, codec as TextCodec, {
    samples: 4,
    length: 4,
    seed: 1,
    draw: 'stable',
    separator: 0,
    ...options,
  })

const rows = ({ tokens, length }: ReturnType<typeof sample>) =>
  Array.from({ length: tokens.length / length }, (_, row) => [
    ...tokens.subarray(row * length, (row + 1) * length),
  ])

test.each(['stable', 'shuffled'] as const)(
  'the same seed gives the same %s sequences, another seed others',
  (draw) => {
    const texts = Array.from({ length: 40 }, (_, i) => String.fromCharCode(65 + i).repeat(3))
    expect(sample(texts, { draw })).toEqual(sample(texts, { draw }))
    expect(sample(texts, { draw, seed: 2 })).not.toEqual(sample(texts, { draw }))
  },
)

// Statistics are kept under ids that name the draw alone: a draw that changes needs another name.
test.each([
  {
    draw: 'shuffled',
    // Those of the text of code in the published results.
    windows: [4, 8, 21, 22, 27, 29, 40, 58, 97, 99, 100, 105, 113, 114, 115, 123],
    texts: 'ABGHCEFD',
  },
  {
    draw: 'stable',
    windows: [27, 32, 37, 40, 42, 47, 49, 61, 62, 65, 70, 88, 95, 98, 118, 120],
    texts: 'HAEFBDCG',
  },
] as const)('the $draw draw is the same in every version', ({ draw, windows, texts }) => {
  const long = Array.from({ length: 124 * 4 }, (_, i) => String.fromCodePoint(1000 + i)).join('')
  const drawn = rows(sample([long], { draw, samples: 16, seed: 0 }))
  expect(drawn.map(([first]) => (first! - 1000) / 4)).toEqual(windows)
  const each = 'ABCDEFGH'.split('').map((letter) => letter.repeat(4))
  const { tokens } = sample(each, { draw, samples: 8, seed: 0, separator: undefined })
  expect([...new Set(tokens)].map((token) => String.fromCodePoint(token)).join('')).toBe(texts)
})

test('a text more leaves the others in their order, and their windows where they are drawn', () => {
  const texts = Array.from({ length: 40 }, (_, i) => String.fromCharCode(65 + i).repeat(3))
  const orderOf = (some: string[]) => [
    ...new Set(sample(some, { samples: 100 }).tokens.filter((token) => token !== 0)),
  ]
  const order = orderOf(texts)
  expect(order).not.toEqual(order.toSorted((one, other) => one - other))
  expect(orderOf(['é'.repeat(3), ...texts]).filter((token) => token !== 'é'.charCodeAt(0))).toEqual(order)
  const long = (length: number) =>
    rows(sample([Array.from({ length }, (_, i) => String.fromCodePoint(1000 + i)).join('')], { samples: 8 }))
  const [before, after] = [long(400), long(404)].map((windows) => windows.map(([first]) => first))
  expect(after?.filter((first) => before?.includes(first)).length).toBeGreaterThanOrEqual(7)
})

test('windows of one long text come from all parts of it, each with consecutive tokens', () => {
  const text = Array.from({ length: 4000 }, (_, i) => String.fromCodePoint(1000 + i)).join('')
  const chosen = rows(sample([text], { samples: 8 }))
  expect(chosen).toHaveLength(8)
  for (const window of chosen) expect(window).toEqual([0, 1, 2, 3].map((i) => window[0]! + i))
  const starts = chosen.map(([first]) => first! - 1000)
  expect(new Set(starts).size).toBe(8)
  expect(starts.every((start) => start % 4 === 0)).toBe(true)
  expect(Math.max(...starts)).toBeGreaterThan(2000)
})

test('short texts are joined with separators between them, but not at the ends', () => {
  const { tokens } = sample(['aaa', 'bbb', 'ccc', 'ddd'], { samples: 3, length: 5 })
  expect(tokens.length).toBe(15)
  expect([3, 7, 11].map((i) => tokens[i])).toEqual([0, 0, 0])
  expect(tokens.filter((token) => token === 0)).toHaveLength(3)
  expect([
    ...sample(['aaa', 'bbb', 'ccc'], { separator: undefined, length: 3, samples: 3 }).tokens,
  ]).not.toContain(0)
})

test('the stream begins with one BOS token if the tokenizer adds one', () => {
  const withBos = { ...codec, encodeDocument: (text: string) => [9, ...encode(text)] }
  const options = { samples: 3, length: 4, seed: 1, draw: 'stable', separator: 0 } as const
  const { tokens } = sampleSequences(['aaa', 'bbb', 'ccc'], withBos as TextCodec, options)
  expect(tokens[0]).toBe(9)
  expect(tokens.filter((token) => token === 9)).toHaveLength(1)
})

test('with fewer tokens than needed every full window is used', () => {
  expect(sample(['abcdefghijklm'], { samples: 100 })).toMatchObject({ sequences: 3, length: 4 })
})

test('fewer than two windows are an error that states the numbers', () => {
  expect(() => sample(['abcdefg'])).toThrow(
    'Calibration needs at least 8 tokens of text (2 sequences of 4), but the 1 sample has 7.',
  )
  expect(() => sample([])).toThrow('the 0 samples have 0')
  expect(sample(['abcd'], { samples: 1 })).toMatchObject({ sequences: 1 })
})

test('a text of a script with many tokens a character gives no more than 1.5 times as many as the others', () => {
  const manyEach = (text: string) =>
    encode(text).flatMap((code) => (code > 127 ? [code, code, code, code] : [code]))
  const dense = { encode: manyEach, encodeDocument: manyEach } as TextCodec
  const plain = Array.from({ length: 9 }, (_, text) => String.fromCharCode(65 + text).repeat(100))
  const options = { samples: 100, length: 10, seed: 1, draw: 'stable', separator: undefined } as const
  const count = (texts: string[]) => {
    const { tokens } = sampleSequences(texts, dense, options)
    return { dense: tokens.filter((token) => token > 127).length, all: tokens.length }
  }
  const { dense: given, all } = count([...plain, 'é'.repeat(100)])
  expect(given).toBeLessThanOrEqual(152)
  expect(given).toBeGreaterThan(130)
  expect(all).toBe(1_000)
  // Where all texts are like that, none is cut.
  expect(count(Array.from({ length: 3 }, () => 'é'.repeat(100)))).toEqual({ dense: 1_000, all: 1_000 })
})

test('texts of one character do not fill sequences with separators', () => {
  const fours = (text: string) => (text.match(/.{1,4}/gu) ?? []).map((part) => part.codePointAt(0)!)
  const texts = [
    ...Array.from({ length: 9 }, () => 'a'.repeat(100)),
    ...Array.from({ length: 100 }, () => 'b'),
  ]
  const { tokens } = sampleSequences(texts, { encode: fours, encodeDocument: fours } as TextCodec, {
    samples: 100,
    length: 9,
    seed: 1,
    draw: 'stable',
    separator: 0,
  })
  // A text that begins the stream stays.
  expect(tokens.filter((token) => token === 'b'.charCodeAt(0)).length).toBeLessThanOrEqual(1)
  expect(tokens.filter((token) => token === 0).length).toBeLessThanOrEqual(9)
})
