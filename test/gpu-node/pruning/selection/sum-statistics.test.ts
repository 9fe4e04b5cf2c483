import { access, cp, open, readdir, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import type { DatasetFile } from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import { decayFactors } from '../../../../gpu-node/src/pruning/runs/half-life.ts'
import { sumStatistics } from '../../../../gpu-node/src/pruning/selection/sum-statistics.ts'
import {
  accumulateStatistic,
  mergeArtifacts,
} from '../../../../gpu-node/src/pruning/statistics/artifact-folder.ts'
import type { Artifact } from '../../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const NAME = 'mlp_hidden.second_moment'
let tiny: TinyModel
let artifacts: Artifact[]
let datasets: DatasetFile[]

async function calibrate(given: readonly DatasetFile[]): Promise<Artifact[]> {
  const outcome = await calibrateAndSelect(
    tiny.model,
    {
      datasets: given,
      accumulated: [],
      samples: 5,
      length: 32,
      seed: 7,
      selection: { method: 'continual-wanda', pattern: '0.5', scope: 'row' },
      parentMaskPath: null,
      created: '2026-11-25T00:00:00.000Z',
      workDir: join(tiny.dir, 'masks'),
      statisticsDir: join(tiny.dir, 'statistics'),
    },
    1,
    () => undefined,
  )
  return outcome.artifacts
}

beforeAll(async () => {
  tiny = await openTinyModel()
  datasets = await Promise.all(
    ['legal', 'sea', 'legal'].map((domain, index) => writeWordsDataset(tiny.dir, domain, index + 1)),
  )
  artifacts = await calibrate(datasets)
})
afterAll(() => tiny.remove())

const of = (domain: string) => artifacts.filter(({ parts }) => parts[0]!.domain === domain)
const tokensOf = (some: readonly Artifact[]) =>
  some.flatMap(({ parts }) => parts).reduce((sum, { tokens }) => sum + tokens, 0)

test('without weights the statistics are summed as they are, as in the paper', async () => {
  const summed = sumStatistics(artifacts, {})
  expect(summed.tokens).toBe(tokensOf(artifacts))
  expect(await summed.accumulate(0, NAME)).toEqual(await accumulateStatistic(artifacts, 0, NAME))
})

test('with weights each domain is divided by its tokens and weighted; domains that are not named have the weight 1', async () => {
  const summed = sumStatistics(artifacts, { weights: { sea: 3 } })
  const [legal, sea] = [
    await accumulateStatistic(of('legal'), 0, NAME),
    await accumulateStatistic(of('sea'), 0, NAME),
  ]
  const expected = legal.map(
    (value, i) => value * (1 / tokensOf(of('legal'))) + sea[i]! * (3 / tokensOf(of('sea'))),
  )
  expect(summed.tokens).toBe(4)
  expect(await summed.accumulate(0, NAME)).toEqual(expected)
})

test('a domain that is not named has the weight 1 whatever its name is', async () => {
  const renamed = of('sea').map((artifact) => ({
    ...artifact,
    parts: artifact.parts.map((part) => ({ ...part, domain: 'constructor' })),
  }))
  const summed = sumStatistics(renamed, { weights: { legal: 2 } })
  expect(summed.tokens).toBe(1)
  expect(await summed.accumulate(0, NAME)).toEqual(
    await sumStatistics(of('sea'), { weights: {} }).accumulate(0, NAME),
  )
})

test.each([1, 1050, 2000])(
  'a weighted domain whose text is %s half-lives older than the newest counts by its weight',
  async (halfLives) => {
    const halfLifeDays = 0.25
    const day = (domain: string) => (domain === 'sea' ? 0 : halfLives * halfLifeDays)
    const aged = datasets.map((dataset) => ({ ...dataset, createdAt: day(dataset.domain) * 24 * 3_600_000 }))
    const weights = { sea: 3 }
    const summed = sumStatistics(artifacts, {
      weights,
      factors: decayFactors(artifacts, aged, halfLifeDays),
    })
    expect(summed.tokens).toBe(4)
    expect(await summed.accumulate(0, NAME)).toEqual(
      await sumStatistics(artifacts, { weights }).accumulate(0, NAME),
    )
  },
)

test('a domain of weight 0 is not read, and all of weight 0 are an error', async () => {
  const without = sumStatistics(artifacts, { weights: { legal: 0 } })
  const alone = sumStatistics(of('sea'), { weights: {} })
  expect(without.tokens).toBe(1)
  expect(await without.accumulate(0, NAME)).toEqual(await alone.accumulate(0, NAME))
  expect(() => sumStatistics(artifacts, { weights: { legal: 0, sea: 0 } })).toThrow(
    expect.objectContaining({ code: 'invalid_request', message: expect.stringContaining('weight 0') }),
  )
})

test('the weighted sum depends neither on the order of artifacts nor on merges, bit by bit', async () => {
  const weights = { legal: 0.7, sea: 1.9 }
  const expected = await sumStatistics(artifacts, { weights }).accumulate(0, NAME)
  const turned = sumStatistics(artifacts.toReversed(), { weights })
  expect(await turned.accumulate(0, NAME)).toEqual(expected)
  const merged = await mergeArtifacts(temporaryDir(), of('legal'))
  expect(await sumStatistics([...of('sea'), merged], { weights }).accumulate(0, NAME)).toEqual(expected)
})

test('factors multiply the sums and the tokens of artifacts', async () => {
  const [first, second] = of('legal') as [Artifact, Artifact]
  const factors = new Map([[first.id, 0.25]])
  const [a, b] = [await accumulateStatistic([first], 0, NAME), await accumulateStatistic([second], 0, NAME)]
  const raw = sumStatistics([first, second], { factors })
  expect(raw.tokens).toBe(0.25 * tokensOf([first]) + tokensOf([second]))
  expect(await raw.accumulate(0, NAME)).toEqual(a.map((value, i) => 0.25 * value + b[i]!))
  const weighted = sumStatistics([first, second], { factors, weights: {} })
  const mean = (await raw.accumulate(0, NAME)).map((value) => value * (1 / raw.tokens))
  expect(await weighted.accumulate(0, NAME)).toEqual(mean)
})

test('a merged sum is on the disk before its parts are removed', async () => {
  const dir = temporaryDir()
  const parts = of('legal').map((artifact) => ({ ...artifact, dir: join(dir, artifact.id) }))
  for (const artifact of of('legal')) await cp(artifact.dir, join(dir, artifact.id), { recursive: true })
  const file = await open(join(parts[0]!.dir, 'manifest.json'))
  const prototype = Object.getPrototypeOf(file) as FileHandle
  await file.close()
  const { value: sync } = Object.getOwnPropertyDescriptor(prototype, 'sync') as {
    value: (this: FileHandle) => Promise<void>
  }
  let synced = 0
  const spy = vi.spyOn(prototype, 'sync').mockImplementation(async function (this: FileHandle) {
    for (const part of parts) await access(join(part.dir, 'manifest.json'))
    synced += 1
    return sync.call(this)
  })
  try {
    const merged = await mergeArtifacts(dir, parts)
    expect(synced).toBe((await readdir(merged.dir)).length)
  } finally {
    spy.mockRestore()
  }
})
