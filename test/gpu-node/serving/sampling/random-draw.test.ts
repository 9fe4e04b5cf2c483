import { expect, test } from 'vitest'
import { philox, randomDraw } from '../../../../gpu-node/src/serving/sampling/random-draw.ts'

/** Known answers of Philox 4×32-10 from Random123 (kat_vectors). */
test.each([
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
] as const)('philox of counter %j and key %j is the published value', (counter, key, expected) => {
  expect(philox([...counter], key)).toEqual(expected)
})

test('draws are uniform: chi-square over 64 bins stays below the 99.9 % quantile, for draws and for seeds', () => {
  const count = 64_000
  for (const at of [(i: number) => randomDraw(7, i), (i: number) => randomDraw(i, 3)]) {
    const bins = new Float64Array(64)
    for (let i = 0; i < count; i++) bins[Math.floor(at(i) * 64)]! += 1
    const expected = count / 64
    const statistic = bins.reduce((sum, observed) => sum + (observed - expected) ** 2 / expected, 0)
    // 99.9 % quantile of chi-square with 63 degrees of freedom.
    expect(statistic).toBeLessThan(103.4)
  }
})

test('a draw depends on seed and index alone', () => {
  const forwards = Array.from({ length: 10 }, (_, n) => randomDraw(42, n))
  const backwards = Array.from({ length: 10 }, (_, n) => randomDraw(42, 9 - n)).reverse()
  expect(backwards).toEqual(forwards)
  expect(new Set(forwards).size).toBe(10)
  expect(randomDraw(43, 0)).not.toBe(forwards[0])
})
