import { expect, test } from 'vitest'
import {
  candidateConfidence,
  confidenceName,
} from '../../../../gateway/src/adaptation/gate/candidate-confidence.ts'

const errorsOf = (candidates: number) =>
  Array.from({ length: candidates }, (_, index) => 1 - candidateConfidence(0.95, index + 1))
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

test('the errors of the first 23 candidates beside one active mask sum to at most that of the policy', () => {
  expect(errorsOf(3).map((error) => error / 0.05)).toEqual(
    [0.648, 0.2169, 0.0732].map((part) => expect.closeTo(part, 4) as number),
  )
  expect(sum(errorsOf(23))).toBeLessThan(0.05)
})

test('later candidates get almost the same part, so that a service whose updates failed often is not stuck', () => {
  const errors = errorsOf(100)
  expect(errors.at(-1)).toBeGreaterThan(0.95 * (errors[11] ?? 1))
  expect(sum(errors)).toBeLessThan(1.15 * 0.05)
})

test('a confidence has the digits that tell it from 100 %', () => {
  expect([0.96, 0.975, 0.995, 1 - 0.05 / 30, 1 - 0.05 / 660, 1 - 1e-4 / 660].map(confidenceName)).toEqual([
    '96 %',
    '97.5 %',
    '99.5 %',
    '99.83 %',
    '99.9924 %',
    '99.999985 %',
  ])
})
