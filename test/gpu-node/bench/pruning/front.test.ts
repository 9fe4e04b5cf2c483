import { expect, test } from 'vitest'
import { frontPlots, frontTable, onFront, type FrontPoint } from '../../../../gpu-node/bench/pruning/front.ts'

function point(name: string, megabytes: number, rate: number, perplexity: number): FrontPoint {
  const tokensPerSecond = { median: rate, min: rate - 1, max: rate + 1, count: 3 }
  return { name, series: name.split(' ')[0] ?? name, megabytes, perplexity, tokensPerSecond }
}

const POINTS = [
  point('dense bf16', 269, 50, 30),
  point('dense int8', 139, 100, 30.1),
  point('pruned bf16', 176, 75, 40),
  point('pruned int8', 99, 120, 41),
  point('twin int8', 139, 100, 30.1),
]

test('a point is on the front unless another point is at least as good in both values and better in one', () => {
  const front = onFront(POINTS, ({ megabytes }) => megabytes)
  expect([...front].map(({ name }) => name)).toEqual(['dense bf16', 'dense int8', 'pruned int8', 'twin int8'])
  const slow = [...POINTS, point('slow int8', 99, 1, 41)]
  const byTime = onFront(slow, ({ tokensPerSecond }) => 1 / tokensPerSecond.median)
  expect([...byTime].map(({ name }) => name)).not.toContain('slow int8')
})

test('the table lists the fewest bytes first and marks the front of each point', () => {
  const rows = frontTable([...POINTS, point('slow int8', 99, 1, 41)])
    .trim()
    .split('\n')
    .slice(2)
  expect(rows[0]).toBe('| pruned int8 | 99 | 120.0 (119.0–121.0) | 41.00 | speed, bytes |')
  expect(rows[1]).toBe('| slow int8 | 99 | 1.0 (0.0–2.0) | 41.00 | bytes |')
  expect(rows.find((row) => row.includes('pruned bf16'))).toMatch(/\| 40\.00 \| {2}\|$/)
})

test('the plots show every point and are reproducible byte for byte', async () => {
  const plots = await frontPlots(POINTS, 'Where pruning pays')
  expect(Object.keys(plots)).toEqual(['front-speed.svg', 'front-bytes.svg'])
  for (const svg of Object.values(plots)) {
    // A mark for each point, and one for each of the three series in the legend.
    expect(
      svg.match(/aria-roledescription="point"|aria-roledescription="circle"/g)?.length,
    ).toBeGreaterThanOrEqual(POINTS.length)
  }
  expect(await frontPlots(POINTS, 'Where pruning pays')).toEqual(plots)
})
