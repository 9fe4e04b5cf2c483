import { expect, test } from 'vitest'
import {
  describeSurprise,
  figuresOf,
  TINTS,
  tintOf,
} from '../../../../gateway/dashboard/src/pages/playground/surprise.ts'

test('the tint grows with the surprise, from a probability above one half to one below 1 %', () => {
  const probabilities = [0.9, 0.4, 0.1, 0.03, 0.001]
  const tints = probabilities.map((probability) => tintOf(-Math.log(probability)))
  expect(tints).toEqual([0, 1, 2, 3, 4])
  expect(Math.max(...tints)).toBe(TINTS - 1)
  expect(tintOf(undefined)).toBe(0)
})

test('a surprise reads as a probability and nats', () => {
  expect(describeSurprise(-Math.log(0.123))).toBe('probability 12.3 %, 2.10 nats')
  expect(describeSurprise(0)).toBe('probability 100 %, 0.00 nats')
  expect(describeSurprise(12)).toBe('probability < 0.1 %, 12.00 nats')
})

test('figures leave out what is not known yet', () => {
  const tokens = [{ surprise: 1 }, { surprise: 3 }, { surprise: undefined }]
  expect(figuresOf(tokens, { sentMs: 100, firstMs: 300, lastMs: 1_300 })).toEqual({
    tokens: 3,
    meanSurprise: 2,
    firstTokenMs: 200,
    totalMs: 1_200,
    tokensPerSecond: 2,
  })
  expect(figuresOf([], { sentMs: 100, firstMs: undefined, lastMs: undefined })).toEqual({
    tokens: 0,
    meanSurprise: null,
    firstTokenMs: null,
    totalMs: null,
    tokensPerSecond: null,
  })
})
