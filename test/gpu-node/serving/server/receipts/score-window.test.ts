import { expect, test } from 'vitest'
import { drawWindow } from '../../../../../gpu-node/src/serving/server/receipts/score-window.ts'

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
/** A prompt whose tokens are their positions, and in which the client's text is at `own`. */
const textOf = (length: number, own: readonly number[]) => ({ tokens: range(0, length), own })
const OPTIONS = { requestId: 'request-1', windowTokens: 256, minTokens: 16, maxTokens: 512, bos: [] }

test('a short message is scored as a whole, with the conversation before it as context', () => {
  const window = drawWindow(textOf(400, range(300, 380)), OPTIONS)
  expect(window?.tokens).toEqual(range(44, 380))
  expect(window?.scored.map((position) => window.tokens[position])).toEqual(range(300, 380))
})

test('nothing precedes the first token of a prompt, so it is not scored', () => {
  const window = drawWindow(textOf(40, range(0, 40)), OPTIONS)
  expect(window).toEqual({ tokens: range(0, 40), scored: range(1, 40) })
})

test('windows cover a long message without gaps or overlaps, and every token is as likely as any other', () => {
  const own = range(100, 1_100)
  const counts = new Map<number, number>()
  const draws = 1_000
  for (let index = 0; index < draws; index++) {
    const window = drawWindow(textOf(1_200, own), { ...OPTIONS, requestId: `request-${index}` })!
    expect(window.scored.length).toBe(250)
    expect(window.tokens.length).toBeLessThanOrEqual(512)
    const scored = window.scored.map((position) => window.tokens[position]!)
    expect(scored).toEqual(range(scored[0]!, scored[0]! + 250))
    for (const token of scored) counts.set(token, (counts.get(token) ?? 0) + 1)
  }
  expect([...counts.keys()].toSorted((a, b) => a - b)).toEqual(own)
  // Four windows: 250 draws each, with a standard deviation of 14.
  for (const count of counts.values()) expect(Math.abs(count - draws / 4)).toBeLessThan(70)
})

test('the same request has the same window everywhere', () => {
  const text = textOf(3_000, range(10, 3_000))
  const drawn = drawWindow(text, OPTIONS)
  expect(drawWindow(text, OPTIONS)).toEqual(drawn)
  const others = range(0, 20).map((index) => drawWindow(text, { ...OPTIONS, requestId: `other-${index}` }))
  expect(new Set(others.map((window) => window!.tokens[0])).size).toBeGreaterThan(5)
})

test('a context that is cut off begins with the BOS of the prompt, one that has none stays as it is', () => {
  const text = textOf(400, range(300, 380))
  const window = drawWindow(text, { ...OPTIONS, bos: [0] })!
  expect(window.tokens).toEqual([0, ...range(45, 380)])
  expect(window.scored.map((position) => window.tokens[position])).toEqual(range(300, 380))
  expect(drawWindow(text, { ...OPTIONS, bos: [9] })?.tokens).toEqual(range(44, 380))
})

test('messages far apart are scored as far as the window reaches', () => {
  const own = [...range(100, 150), ...range(900, 950)]
  const window = drawWindow(textOf(1_000, own), OPTIONS)!
  expect(window.tokens.length).toBeLessThanOrEqual(512)
  expect(window.scored.map((position) => window.tokens[position])).toEqual(range(100, 150))
})

test('a text with too few tokens has no window', () => {
  expect(drawWindow(textOf(100, range(50, 65)), OPTIONS)).toBeNull()
  expect(drawWindow(textOf(16, range(0, 16)), OPTIONS)).toBeNull()
})
