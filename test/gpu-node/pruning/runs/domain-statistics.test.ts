/** Statistics of domains: which are kept, how they are merged, and what of them a mask depends on. */
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import type { CalibrationTask, DatasetFile } from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import {
  accumulateStatistic,
  mergeArtifacts,
} from '../../../../gpu-node/src/pruning/statistics/artifact-folder.ts'
import { statisticTensorSizes } from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import {
  statisticsOf,
  type Artifact,
} from '../../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { statisticsFolderOf, storedStatistics } from '../../../support/pruning/stored-statistics.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const DAY_MS = 24 * 3_600_000
const LIGHT = 'continual-wanda+swaps'
let tiny: TinyModel
let legal: DatasetFile[]
let sea: DatasetFile[]

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 2 })
  const write = (domain: string, seeds: number[]) =>
    Promise.all(seeds.map((seed) => writeWordsDataset(tiny.dir, domain, seed)))
  legal = await write('legal', [1, 2, 3])
  sea = await write('sea', [4, 5])
})
afterAll(() => tiny.remove())

type Changes = Partial<CalibrationTask> & { spec?: Partial<SelectionSpec> }

/** Runs a task, and returns its outcome and the domains whose text was calibrated. */
async function run({ spec, ...changes }: Changes) {
  const calibrated: string[] = []
  const task: CalibrationTask = {
    datasets: [],
    accumulated: [],
    samples: 5,
    length: 32,
    seed: 7,
    selection: { method: LIGHT, pattern: '0.5', scope: 'row', ...spec },
    parentMaskPath: null,
    created: '2026-11-25T00:00:00.000Z',
    workDir: join(tiny.dir, 'masks'),
    statisticsDir: temporaryDir(),
    ...changes,
  }
  const outcome = await calibrateAndSelect(tiny.model, task, 1, ({ message }) => {
    const [, domain] = /^calibrating (\w+), block 2 of 2/.exec(message) ?? []
    if (domain !== undefined) calibrated.push(domain)
  })
  return { ...outcome, calibrated, statisticsDir: task.statisticsDir }
}

test('a method that reads no sensitivities stores none, and its other statistics are equal bit by bit', async () => {
  const light = await run({ datasets: [legal[0]!] })
  const full = await run({ datasets: [legal[0]!], spec: { method: 'copal' } })
  const [[lightPart], [fullPart]] = [light.artifacts, full.artifacts] as [Artifact[], Artifact[]]
  expect([statisticsOf(lightPart!), statisticsOf(fullPart!)]).toEqual(['moments', 'all'])
  expect(lightPart!.id).not.toBe(fullPart!.id)
  const names = [...statisticTensorSizes(tiny.model.config, 'moments').keys()]
  expect(Object.keys(lightPart!.blocks[0]!).toSorted()).toEqual(names.toSorted())
  for (const name of names) {
    const sums = await Promise.all([lightPart!, fullPart!].map((one) => accumulateStatistic([one], 1, name)))
    expect(sums[0]).toEqual(sums[1])
  }
})

test('statistics with sensitivities serve every method, those without only methods that read none', async () => {
  const full = await run({ datasets: legal.slice(0, 2), spec: { method: 'copal' } })
  const { statisticsDir } = full
  const light = await run({ datasets: [legal[2]!], accumulated: legal.slice(0, 2), statisticsDir })
  expect(light.calibrated).toEqual(['legal'])
  expect(light.maskSha256).toBe((await run({ datasets: legal })).maskSha256)
  const again = await run({ datasets: legal, statisticsDir, spec: { method: 'copal' } })
  expect(again.calibrated).toEqual(['legal'])
  expect(again.maskSha256).toBe((await run({ datasets: legal, spec: { method: 'copal' } })).maskSha256)
  // Now one dataset is there twice. It counts once.
  const twice = await run({ datasets: legal, statisticsDir })
  expect(twice.calibrated).toEqual([])
  expect(twice.maskSha256).toBe(light.maskSha256)
  expect(twice.tokens).toHaveLength(3)
})

test('an update reads its own part and one file a domain', async () => {
  const first = await run({ datasets: [legal[0]!, sea[0]!] })
  const { statisticsDir } = first
  await run({ datasets: [legal[1]!], accumulated: [legal[0]!, sea[0]!], statisticsDir })
  await run({ datasets: [sea[1]!], accumulated: [...legal.slice(0, 2), sea[0]!], statisticsDir })
  const last = await run({
    datasets: [legal[2]!],
    accumulated: [...legal.slice(0, 2), ...sea],
    statisticsDir,
  })
  const read = last.artifacts.map(({ parts }) => `${parts[0]!.domain} ${parts.length}`)
  expect(read.toSorted()).toEqual(['legal 1', 'legal 2', 'sea 2'])
  expect(last.maskSha256).toBe((await run({ datasets: [...legal, ...sea] })).maskSha256)
})

test('three nodes that calibrated other batches give the mask of one node, in any grouping of their statistics', async () => {
  const all = [...legal, ...sea]
  const selection = { spec: { weights: { sea: 2.5 } } }
  const expected = await run({ ...selection, datasets: all })
  const folders = []
  for (const share of [[legal[0]!, sea[1]!], [legal[1]!], [sea[0]!, legal[2]!]])
    folders.push((await run({ ...selection, datasets: share })).statisticsDir)
  const groupings: string[][][] = [
    [],
    [[legal[0]!, legal[1]!]],
    [[legal[1]!, legal[2]!], sea],
    [legal, sea],
  ].map((groups) => groups.map((group) => group.map(({ sha256 }) => sha256)))
  for (const groups of groupings) {
    const statisticsDir = temporaryDir()
    const joined = await statisticsFolderOf(statisticsDir, tiny.model)
    for (const folder of folders)
      await cp(await statisticsFolderOf(folder, tiny.model), joined, { recursive: true })
    const stored = await storedStatistics(statisticsDir, tiny.model)
    for (const group of groups) {
      const parts = stored.filter((one) => group.includes(one.parts[0]!.datasetSha256))
      await mergeArtifacts(joined, parts)
    }
    const mask = await run({ ...selection, datasets: all, statisticsDir })
    expect(mask.calibrated).toEqual([])
    expect(mask.maskSha256).toBe(expected.maskSha256)
  }
})

test("a domain's weight does not grow with its batches", async () => {
  const spec = { method: 'continual-wanda', weights: {} }
  const once = await run({ datasets: [legal[0]!, sea[0]!], spec })
  const twin = await writeWordsDataset(tiny.dir, 'legal', 1, 6)
  expect(twin.sha256).toBe(legal[0]!.sha256)
  // A batch that is named twice counts once.
  const again = await run({ datasets: [legal[0]!, sea[0]!], accumulated: [legal[0]!], spec })
  expect(again.maskSha256).toBe(once.maskSha256)
  const weighted = await run({ datasets: [legal[0]!, sea[0]!], spec: { ...spec, weights: { sea: 40 } } })
  expect(weighted.maskSha256).not.toBe(once.maskSha256)
  const scaled = await run({
    datasets: [legal[0]!, sea[0]!],
    spec: { ...spec, weights: { legal: 4, sea: 4 } },
  })
  expect(scaled.maskSha256).toBe(once.maskSha256)
})

test('with a half-life old batches count less, nothing is merged, and the job gives the same bytes at any time', async () => {
  const at = (dataset: DatasetFile, day: number) => ({ ...dataset, createdAt: day * DAY_MS })
  const datasets = [at(legal[2]!, 100)]
  const accumulated = [at(legal[0]!, 40), at(legal[1]!, 70), at(sea[0]!, 20), at(sea[1]!, 90)]
  const spec = { method: 'continual-wanda', weights: {} }
  const aged = await run({ datasets, accumulated, halfLifeDays: 5, spec })
  expect(aged.artifacts.map(({ parts }) => parts.length)).toEqual([1, 1, 1, 1, 1])
  const { statisticsDir } = aged
  const again = await run({
    datasets,
    accumulated: accumulated.toReversed(),
    halfLifeDays: 5,
    spec,
    statisticsDir,
  })
  expect(again.maskSha256).toBe(aged.maskSha256)
  expect((await run({ datasets, accumulated, spec })).maskSha256).not.toBe(aged.maskSha256)
})
