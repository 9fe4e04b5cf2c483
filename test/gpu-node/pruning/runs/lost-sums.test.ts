/** Calibrations whose second moments are summed outside of the graphs, by doubles, because a device's faults cannot be timed. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  LostSumsError,
  type MomentSummer,
} from '../../../../gpu-node/src/pruning/calibration/moment-summer.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import type { CalibrationTask, DatasetFile } from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import type { GatherOptions } from '../../../../gpu-node/src/pruning/runs/gather-statistics.ts'
import type { BlockInput } from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'

let tiny: TinyModel
let datasets: DatasetFile[]
let counter = 0

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 3 })
  datasets = [
    await writeWordsDataset(tiny.dir, 'legal', 1, 60),
    await writeWordsDataset(tiny.dir, 'sea', 2, 60),
  ]
})
afterAll(() => tiny.remove())

async function select(createMoments: GatherOptions['createMoments'], messages: string[] = []) {
  const dir = join(tiny.dir, `run-${counter++}`)
  const task: CalibrationTask = {
    datasets,
    accumulated: [],
    samples: 4,
    length: 32,
    seed: 7,
    selection: { method: 'copal+swaps', pattern: '0.5', scope: 'row' },
    parentMaskPath: null,
    created: '2026-11-25T00:00:00.000Z',
    workDir: join(dir, 'masks'),
    statisticsDir: join(dir, 'statistics'),
  }
  const options = { createMoments }
  return calibrateAndSelect(tiny.model, task, 1, ({ message }) => messages.push(message), options)
}

let sumsOfGraphs: ReturnType<typeof select> | undefined

/** Returns the outcome of a selection whose sums no summer computes. It runs once for all tests. */
function byGraphs() {
  return (sumsOfGraphs ??= select(undefined))
}

/** Sums in f64; `calls` lists what it is asked for. `failAt` is the call, by its place, that loses the sums. */
function summer(calls: string[], failAt = Number.POSITIVE_INFINITY): MomentSummer {
  const sums = new Map<BlockInput, Float64Array>()
  let sizes: ReadonlyMap<BlockInput, number> = new Map()
  const call = (name: string) => {
    if (calls.push(name) > failAt) throw new LostSumsError('the device was lost')
  }
  return {
    async begin(wanted) {
      call('begin')
      sizes = wanted
      for (const [input, cols] of wanted) sums.set(input, new Float64Array((cols * (cols + 1)) / 2))
    },
    async add(input, values) {
      call('add')
      const [cols, sum] = [sizes.get(input)!, sums.get(input)!]
      for (let first = 0; first < values.length; first += cols)
        for (let a = 0, at = 0; a < cols; a++)
          for (let b = a; b < cols; b++, at++) sum[at]! += values[first + a]! * values[first + b]!
    },
    async read(input, triangle) {
      call('read')
      triangle.set(sums.get(input)!)
    },
    close: () => void calls.push('close'),
  }
}

test('a summer gets the inputs of the graphs', async () => {
  const calls: string[] = []
  const { sparsity, swaps } = await select(() => summer(calls))
  const expected = await byGraphs()
  expect(sparsity).toBe(expected.sparsity)
  for (const [name, { before }] of Object.entries(expected.swaps!))
    expect(Math.abs(swaps![name]!.before / before - 1)).toBeLessThan(1e-5)
  // For each of two datasets and three blocks.
  expect(calls).toEqual([
    ...Array.from({ length: 6 }, () => ['begin', ...Array(4).fill('add'), ...Array(4).fill('read')]).flat(),
    'close',
  ])
})

// The beginning of a block, its inputs, its end; in the first and in the second dataset.
test.each([0, 12, 17, 27 + 10])(
  'sums that are lost at call %i are summed again by the graphs, and finished blocks are not',
  async (failAt) => {
    const calls: string[] = []
    let created = 0
    const messages: string[] = []
    const { maskSha256, swaps } = await select(
      () => (created++ === 0 ? summer(calls, failAt) : null),
      messages,
    )
    expect(created).toBe(2)
    expect(calls.filter((call) => call === 'close')).toHaveLength(1)
    const expected = await byGraphs()
    // Those of a summer in f64 are not those of the graphs to the bit.
    expect(failAt < 9 ? maskSha256 : expected.maskSha256).toBe(expected.maskSha256)
    for (const [name, { before }] of Object.entries(expected.swaps!))
      expect(Math.abs(swaps![name]!.before / before - 1)).toBeLessThan(1e-5)
    // The blocks of a dataset that were finished are not reported as calibrated twice.
    const lost = failAt < 27 ? 'legal' : 'sea'
    const resumed = Math.floor((failAt % 27) / 9)
    const reports = (block: number) =>
      messages.filter((message) => message === `calibrating ${lost}, block ${block} of 3`).length
    expect([0, 1, 2, 3].map(reports)).toEqual([0, 1, 2, 3].map((block) => (block === resumed ? 2 : 1)))
  },
)

test('a summer that is given again after it lost its sums is closed each time', async () => {
  const calls: string[] = []
  let created = 0
  await select(() => (created++ < 3 ? summer(calls, calls.length) : null))
  expect(created).toBe(4)
  expect(calls).toEqual(['begin', 'close', 'begin', 'close', 'begin', 'close'])
})

test('an error after sums were lost is the one that is thrown', async () => {
  let created = 0
  const run = select(() => {
    if (created++ > 0) throw new Error('no memory')
    return summer([], 0)
  })
  await expect(run).rejects.toThrow('no memory')
})
