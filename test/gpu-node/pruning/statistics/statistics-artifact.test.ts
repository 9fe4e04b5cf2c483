import { expect, test } from 'vitest'
import { partId } from '../../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'

test('the id of statistics covers everything that they depend on', () => {
  const spec = {
    baseSha256: 'a',
    datasetSha256: 'b',
    samples: 1,
    length: 2,
    seed: 3,
    draw: 'shuffled' as const,
  }
  const ids = [
    spec,
    { ...spec, baseSha256: 'c' },
    { ...spec, datasetSha256: 'c' },
    { ...spec, samples: 2 },
    { ...spec, length: 3 },
    { ...spec, seed: 4 },
    { ...spec, draw: 'stable' as const },
  ].map(partId)
  expect(new Set(ids).size).toBe(ids.length)
})
