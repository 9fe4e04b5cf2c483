import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import {
  neededStatistics,
  type CalibrationTask,
} from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import { estimateCost, MEASURED_RATES } from '../../../../gpu-node/src/pruning/runs/cost-estimate.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { tinyConfig } from '../../../support/models/tiny-llama.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

let tiny: TinyModel

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 3, hiddenSize: 128, intermediateSize: 400 })
})

afterAll(() => tiny.remove())

/** SmolLM2-135M, the measured model. */
const SMOLLM2 = {
  ...tinyConfig(),
  vocabSize: 49152,
  hiddenSize: 576,
  intermediateSize: 1536,
  layers: 30,
  heads: 9,
  kvHeads: 3,
  headDim: 64,
}

test.each(['copal', 'continual-sparsegpt'])(
  'the disk space of two domains and a mask by %s',
  async (method) => {
    const dir = join(tiny.dir, method)
    const task: CalibrationTask = {
      datasets: [await writeWordsDataset(tiny.dir, 'sea', 1), await writeWordsDataset(tiny.dir, 'law', 2)],
      accumulated: [],
      samples: 5,
      length: 32,
      seed: 7,
      selection: { method, pattern: '0.5', scope: 'row' },
      parentMaskPath: null,
      created: '2026-11-25T00:00:00.000Z',
      workDir: join(dir, 'masks'),
      statisticsDir: join(dir, 'statistics'),
    }
    await calibrateAndSelect(tiny.model, task, 1, () => undefined)
    const { diskBytes } = estimateCost(tiny.model.config, {
      samples: 5,
      length: 32,
      domains: 2,
      methods: [method],
      threads: 1,
      statistics: neededStatistics(task),
    })
    // Headers and manifests take kilobytes and are not counted.
    expect(bytesUnder(dir) / diskBytes).toBeGreaterThan(1)
    expect(bytesUnder(dir) / diskBytes).toBeLessThan(1.05)
  },
)

test('the estimate for the default model is within a factor of two of the time measured on an idle machine', () => {
  const sizes = { samples: 16, length: 512, domains: 1, threads: 2 }
  const calibration = estimateCost(SMOLLM2, { ...sizes, methods: [] })
  expect(within(calibration.seconds, 37.4, 2)).toBe(true)
  expect(within(calibration.peakBytes, 575e6, 1.3)).toBe(true)
  const swaps = estimateCost(SMOLLM2, { ...sizes, methods: ['continual-wanda+swaps'] })
  expect(within(swaps.seconds - calibration.seconds, 38.3, 2)).toBe(true)
})

test('the time depends on tokens, domains, threads and rates', () => {
  const options = { samples: 16, length: 512, domains: 1, methods: [], threads: 2 }
  const rates = { ...MEASURED_RATES, writtenBytes: Number.POSITIVE_INFINITY }
  const once = estimateCost(SMOLLM2, { ...options, rates }).seconds
  expect(estimateCost(SMOLLM2, { ...options, rates, samples: 32 }).seconds).toBeCloseTo(2 * once)
  expect(estimateCost(SMOLLM2, { ...options, rates, domains: 3 }).seconds).toBeCloseTo(3 * once)
  expect(estimateCost(SMOLLM2, { ...options, rates, threads: 1 }).seconds).toBeCloseTo(2 * once)
  const fast = { ...rates, productsPerThread: 2 * rates.productsPerThread }
  expect(estimateCost(SMOLLM2, { ...options, rates: fast }).seconds).toBeCloseTo(once / 2)
})

test('the memory does not depend on the number of blocks', () => {
  const options = { samples: 16, length: 512, domains: 1, methods: ['copal'], threads: 2 }
  const { peakBytes } = estimateCost(SMOLLM2, options)
  expect(estimateCost({ ...SMOLLM2, layers: 80 }, options).peakBytes).toBe(peakBytes)
})

test('an unknown method is an error', () => {
  const options = { samples: 1, length: 1, domains: 1, methods: ['wnada'], threads: 1 }
  expect(() => estimateCost(SMOLLM2, options)).toThrow(/no pruning method 'wnada'/)
})

function within(value: number, measured: number, factor: number): boolean {
  return value < measured * factor && value > measured / factor
}

function bytesUnder(dir: string): number {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
}
