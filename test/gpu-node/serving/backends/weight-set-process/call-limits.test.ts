import { expect, test } from 'vitest'
import { callLimits } from '../../../../../gpu-node/src/serving/backends/weight-set-process/call-limits.ts'

/** A model of as many weights, of which attention has few. */
function modelOf(weights: number) {
  const tensors = new Map([['weight', { shape: [weights / 1000, 1000], offset: 0, bytes: 4 * weights }]])
  return { config: { layers: 2, heads: 2, headDim: 8 }, master: { path: '', baseSha256: '', tensors } }
}

const workOf = (tokens: number, position = 0) => [{ tokens: new Int32Array(tokens), position }]

test('a step may take a minute on each thread, and what its operations take at 10⁹ a second', () => {
  const limits = callLimits(modelOf(135e6))
  expect(limits(workOf(1)).workMs).toBeCloseTo(60_270, 0)
  expect(limits([...workOf(64), ...workOf(8)]).workMs).toBeCloseTo(60_000 + 270 * 72, -1)
})

test('attention to a long context counts', () => {
  const limits = callLimits(modelOf(1e6))
  const added = limits(workOf(100, 1e6)).workMs - limits(workOf(100)).workMs
  expect(added).toBeCloseTo((100 * 4 * 2 * 2 * 8 * 1e6) / 1e6)
})

test('a load takes as long as a step of many tokens, and nothing longer than an hour', () => {
  expect(callLimits(modelOf(135e6))().workMs).toBeCloseTo(60_000 + 270 * 512)
  const limits = callLimits(modelOf(70e9))
  expect(limits().workMs).toBe(3_600_000)
  expect(limits(workOf(512)).workMs).toBe(3_600_000)
})
