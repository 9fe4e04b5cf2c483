import { expect, test } from 'vitest'
import { cutEvaluationWindows } from '../../../../gpu-node/lab/texts/evaluation-windows.ts'
import { overlapShare } from '../../../../gpu-node/lab/texts/text-overlap.ts'

/** One token per character, after the BOS token 1. */
const codec = { encodeDocument: (text: string) => [1, ...Array.from(text, (char) => char.charCodeAt(0))] }
const text = (windows: Int32Array[]) => windows.map((window) => String.fromCharCode(...window))

test('texts are joined by blank lines into one document, cut without overlap, the tail dropped', () => {
  const { windows } = cutEvaluationWindows(['abcd', 'efg', 'h'], codec, 4, Number.POSITIVE_INFINITY)
  expect(text(windows)).toEqual(['\u0001abc', 'd\n\ne', 'fg\n\n'])
})

test('a long text is encoded only as far as the windows need', () => {
  const encoded: number[] = []
  const counting = {
    encodeDocument(part: string) {
      encoded.push(part.length)
      return codec.encodeDocument(part)
    },
  }
  const { windows } = cutEvaluationWindows(['x'.repeat(1_000_000)], counting, 10, 3)
  expect(windows).toHaveLength(3)
  expect(Math.max(...encoded)).toBeLessThan(20_000)
})

test('a text with long tokens is encoded whole', () => {
  const sparse = { encodeDocument: (part: string) => Array.from({ length: part.length / 100 }, (_, i) => i) }
  const { windows } = cutEvaluationWindows(['x'.repeat(1_000_000)], sparse, 1000, 3)
  expect(windows).toHaveLength(3)
})

test('different windows have different hashes', () => {
  const hash = (content: string, most = 9) => cutEvaluationWindows([content], codec, 4, most).sha256
  expect(hash('abcdefgh')).toBe(hash('abcdefghi'))
  expect(hash('abcdefgh')).not.toBe(hash('abcdefgx'.repeat(2)))
  expect(hash('abcdefgh', 1)).not.toBe(hash('abcdefgh', 2))
})

test('a text shorter than one window is rejected with its number of tokens', () => {
  expect(() => cutEvaluationWindows(['abc'], codec, 8, 1)).toThrow('has 4 tokens, less than one window of 8')
})

test('an overlap is found at any position', () => {
  const tokens = (from: number, count: number) => Int32Array.from({ length: count }, (_, i) => from + i)
  const window = tokens(1000, 128)
  expect(overlapShare([tokens(0, 512)], [window])).toBe(0)
  expect(overlapShare([tokens(0, 512), tokens(993, 200)], [window])).toBe(1)
  expect(overlapShare([tokens(1031, 300)], [window])).toBe(0.75)
})
