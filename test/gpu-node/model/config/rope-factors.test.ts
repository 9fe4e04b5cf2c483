import { expect, test } from 'vitest'
import { fitLlama3Scaling, llama3Factors } from '../../../../gpu-node/src/model/config/rope-factors.ts'

const LLAMA_3_2 = {
  type: 'llama3',
  factor: 32,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalContextLength: 8192,
} as const

test('short wavelengths keep their frequency, long ones are divided by the factor, and others are interpolated', () => {
  const factors = llama3Factors(LLAMA_3_2, 64, 500_000)
  expect(factors.slice(0, 14).every((factor) => factor === 1)).toBe(true)
  expect(factors.slice(19).every((factor) => factor === 32)).toBe(true)
  // Pair 16: wavelength 2π √500000 = 4442.9; share (8192/4442.9 − 1) / 3 = 0.28128.
  expect(factors[16]).toBeCloseTo(1 / (0.71872 / 32 + 0.28128), 3)
  expect(factors.every((factor, pair) => pair === 0 || factor >= factors[pair - 1]!)).toBe(true)
})

test('the released parameters are recognised from their factors', () => {
  const factors = Float32Array.from(llama3Factors(LLAMA_3_2, 64, 500_000))
  expect(fitLlama3Scaling(factors, 64, 500_000)).toEqual(LLAMA_3_2)
})

test('other parameters are found up to a common scale, which changes no factor', () => {
  const scaling = {
    ...LLAMA_3_2,
    factor: 8,
    lowFreqFactor: 2,
    highFreqFactor: 8,
    originalContextLength: 4096,
  }
  const factors = llama3Factors(scaling, 128, 500_000)
  const fitted = fitLlama3Scaling(Float32Array.from(factors), 128, 500_000)!
  expect(fitted).toEqual({ ...scaling, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: 2048 })
  llama3Factors(fitted, 128, 500_000).forEach((factor, pair) => expect(factor).toBeCloseTo(factors[pair]!, 5))
})

test('factors that are all 1 mean no scaling', () => {
  expect(fitLlama3Scaling(new Float32Array(32).fill(1), 64, 10_000)).toBeNull()
})

test('factors of another scaling, or of another length, are not recognised as llama3', () => {
  const longRope = Float32Array.from({ length: 32 }, (_, pair) => 1 + pair * 0.3)
  expect(fitLlama3Scaling(longRope, 64, 10_000)).toBeUndefined()
  expect(fitLlama3Scaling(new Float32Array(8).fill(1), 64, 10_000)).toBeUndefined()
})
