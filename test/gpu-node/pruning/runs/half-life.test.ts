import { expect, test } from 'vitest'
import { decayFactors } from '../../../../gpu-node/src/pruning/runs/half-life.ts'
import type { Artifact } from '../../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'

const DAY_MS = 24 * 3_600_000
const dataset = (sha256: string, day?: number) => ({
  sha256,
  domain: 'legal',
  path: '',
  createdAt: day === undefined ? undefined : day * DAY_MS,
})
const artifact = (id: string, parts: readonly [dataset: string, tokens: number][]): Artifact => ({
  id,
  dir: '',
  baseSha256: '',
  blocks: [],
  parts: parts.map(([datasetSha256, tokens]) => ({
    id: datasetSha256,
    datasetSha256,
    domain: 'legal',
    tokens,
  })),
})

test('a dataset counts half after each half-life before the newest one, whatever time it is now', () => {
  const datasets = [dataset('a', 100), dataset('b', 93), dataset('c', 86), dataset('d')]
  const artifacts = ['a', 'b', 'c', 'd'].map((name) => artifact(name, [[name, 10]]))
  expect([...decayFactors(artifacts, datasets, 7)]).toEqual([
    ['a', 1],
    ['b', 0.5],
    ['c', 0.25],
    ['d', 1],
  ])
})

test('datasets count in full where no time is known', () => {
  const artifacts = [artifact('a', [['a', 10]]), artifact('b', [['b', 10]])]
  expect([...decayFactors(artifacts, [dataset('a'), dataset('b')], 7).values()]).toEqual([1, 1])
})

test('the tokens of a merged artifact count as much as those of its parts', () => {
  const datasets = [dataset('a', 100), dataset('b', 86), dataset('c', 100)]
  const merged = artifact('ab', [
    ['a', 10],
    ['b', 30],
  ])
  const [[, factor]] = [...decayFactors([merged], datasets, 7)] as [[string, number]]
  expect(40 * factor).toBeCloseTo(10 + 30 / 4, 12)
})
