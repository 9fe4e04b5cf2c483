import { expect, test } from 'vitest'
import { labelsOf } from '../../../../../gpu-node/lab/report/plots/gap-plot.ts'

test('marks that are near each other share a label, and one at the begin stands after its line', () => {
  const marks = [
    { atMs: 500, label: 'm3 active' },
    { atMs: 0, label: 'm1 active' },
    { atMs: 20, label: 'm2 active' },
    { atMs: 510, label: 'm3 rolled back' },
    { atMs: 900, label: 'm4 active' },
  ]
  expect(labelsOf(marks, [0, 1000])).toEqual([
    { atMs: 20, label: 'm1 active, m2 active', side: 'after' },
    { atMs: 500, label: 'm3 active, m3 rolled back', side: 'before' },
    { atMs: 900, label: 'm4 active', side: 'before' },
  ])
  expect(marks.map(({ label }) => label)).toContain('m3 active')
  expect(labelsOf([], [])).toEqual([])
})
