import { expect, test } from 'vitest'
import { keptCounts, parsePattern, type MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { selectKept } from '../../../../gpu-node/src/pruning/methods/select-kept.ts'
import { bitStrings } from '../../../support/pruning/prune-toy.ts'
import { createRandom } from '../../../support/harness/random.ts'

/** The reference selection: a stable sort, lowest first. */
function sortedMask(
  score: Float64Array,
  rows: number,
  cols: number,
  pattern: string,
  scope: MaskScope,
): string[] {
  const { groups, size, kept } = keptCounts(parsePattern(pattern), scope, rows, cols)
  const keep = Array.from({ length: rows * cols }, () => '1')
  for (let group = 0; group < groups; group++) {
    const order = Array.from({ length: size }, (_, i) => group * size + i).sort(
      (a, b) => score[a]! - score[b]! || a - b,
    )
    for (const i of order.slice(0, size - kept)) keep[i] = '0'
  }
  return Array.from({ length: rows }, (_, row) => keep.slice(row * cols, (row + 1) * cols).join(''))
}

test.each(['0.0001', '0.1', '0.5', '0.77', '0.9999', '2:4', '1:3', '5:12'])(
  'selection with many ties prunes the first weights of a stable sort (%s)',
  (pattern) => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = createRandom(seed)
      const rows = 1 + Math.floor(random() * 6)
      const cols =
        12 * (1 + Math.floor(random() * 4)) + (pattern.includes(':') ? 0 : Math.floor(random() * 9))
      const levels = 1 + Math.floor(random() * 30)
      const score = Float64Array.from({ length: rows * cols }, () => Math.floor(random() * levels))
      for (const scope of ['row', 'matrix'] as const) {
        const bits = selectKept(score, rows, cols, parsePattern(pattern), scope)
        expect(bitStrings(bits, rows, cols), `seed ${seed}, ${scope}`).toEqual(
          sortedMask(score, rows, cols, pattern, scope),
        )
      }
    }
  },
)

/** Scores that are counted in buckets of very different widths, or that differ in their last bits alone. */
const KINDS: Readonly<Record<string, (random: () => number) => number>> = {
  'of both signs': (random) => random() - 0.5,
  'over 600 orders of magnitude': (random) => 10 ** (600 * random() - 300) * (random() < 0.5 ? -1 : 1),
  'that differ in their last bits': (random) => 1 + Math.floor(random() * 9) * Number.EPSILON,
  'with zeros of both signs': (random) => [0, -0, 1e-310, -1e-310][Math.floor(random() * 4)] ?? 0,
  'of which one is huge': (random) => (random() < 0.01 ? 1e300 : random()),
}

test.each(Object.entries(KINDS))('scores %s are selected as by a stable sort', (_, draw) => {
  for (const [rows, cols] of [
    [3, 61],
    [2, 500],
    // As a matrix enough for a sample.
    [40, 500],
  ] as const) {
    const random = createRandom(rows)
    const score = Float64Array.from({ length: rows * cols }, () => draw(random))
    for (const pattern of ['0.1', '0.5', '0.9']) {
      for (const scope of ['row', 'matrix'] as const)
        expect(bitStrings(selectKept(score, rows, cols, parsePattern(pattern), scope), rows, cols)).toEqual(
          sortedMask(score, rows, cols, pattern, scope),
        )
    }
  }
})

test('scores of which a sample is misleading are selected as by a stable sort', () => {
  const [rows, cols] = [40, 500]
  const random = createRandom(1)
  const score = Float64Array.from({ length: rows * cols }, () => random())
  // The places of the sample.
  for (let i = 0; i < 1024; i++)
    score[Math.floor(((i * ((Math.sqrt(5) - 1) / 2)) % 1) * score.length)] = 2 + random()
  for (const pattern of ['0.1', '0.5', '0.999'])
    expect(bitStrings(selectKept(score, rows, cols, parsePattern(pattern), 'matrix'), rows, cols)).toEqual(
      sortedMask(score, rows, cols, pattern, 'matrix'),
    )
})

test.each([Number.NaN, Infinity, -Infinity])(
  'a score of %d is an error, in few scores and in many',
  (score) => {
    for (const count of [4, 400, 40_000]) {
      const scores = new Float64Array(count).fill(1).with(count - 1, score)
      expect(() => selectKept(scores, 1, count, parsePattern('0.5'), 'row')).toThrow(RangeError)
    }
  },
)

test('a pattern that does not divide the columns is an error', () => {
  expect(() => selectKept(new Float64Array(6), 1, 6, parsePattern('2:4'), 'row')).toThrow(
    'not a multiple of 4',
  )
})
