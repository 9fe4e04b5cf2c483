import { expect } from 'vitest'

/** Expects numbers that differ by at most `tolerance` from others. */
export function expectClose(
  actual: ArrayLike<number | null>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  expect(actual.length).toBe(expected.length)
  for (let i = 0; i < expected.length; i++)
    expect(Math.abs(actual[i]! - expected[i]!), `at ${i}`).toBeLessThanOrEqual(tolerance)
}
