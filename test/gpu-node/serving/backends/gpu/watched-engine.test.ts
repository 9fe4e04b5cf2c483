import { expect, test } from 'vitest'
import { callTimeouts } from '../../../../../gpu-node/src/serving/backends/gpu/watched-engine.ts'

/** A model of 8 billion weights, of which attention has few. */
const tensors = new Map([['weight', { shape: [8e6, 1000], offset: 0, bytes: 0 }]])
const MODEL = {
  config: { layers: 2, heads: 2, headDim: 8 },
  master: { path: '', baseSha256: '', tensors },
}
const stepOf = (...lengths: number[]) => ({
  lengths: Int32Array.from(lengths),
  positions: new Int32Array(lengths.length),
})

test('a step of a GPU may take a minute, and what its operations take at 10¹⁰ a second', () => {
  const timeoutMs = callTimeouts(MODEL, 'discrete')
  expect(timeoutMs(stepOf(1)) / 1000).toBeCloseTo(61.6, 1)
  expect(timeoutMs(stepOf(200, 56)) / 1000).toBeCloseTo(60 + 409.6, 0)
})

test('a load has an hour, whatever the model, because it reads from a disk and packs on the processor', () => {
  expect(callTimeouts(MODEL, 'discrete')()).toBe(3_600_000)
})

test('the tensors of a model are counted once, not in each step', () => {
  let walks = 0
  const counted = new Map(tensors)
  counted.values = () => (walks++, tensors.values())
  counted[Symbol.iterator] = counted.entries = () => (walks++, tensors.entries())
  const timeoutMs = callTimeouts({ ...MODEL, master: { ...MODEL.master, tensors: counted } }, 'discrete')
  for (let step = 0; step < 5; step++) timeoutMs(stepOf(1))
  expect(walks).toBe(1)
})

test('a software driver has as long as a thread of the processor', () => {
  expect(callTimeouts(MODEL, 'software')(stepOf(10)) / 1000).toBeCloseTo(60 + 160, 0)
})
