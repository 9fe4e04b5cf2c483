import { expect, test } from 'vitest'
import { statisticTensors } from '../../../gpu-node/src/copal/block-statistics.ts'
import { estimateCost } from '../../../gpu-node/src/copal/estimate.ts'
import { BLOCK_LINEARS, linearShape } from '../../../gpu-node/src/model/config.ts'
import { largeConfig } from '../../support/large-llama.ts'
import { measurePeakMemory } from '../../support/peak-memory.ts'
import { temporaryDir } from '../../support/temporary.ts'

/** The runtime's code and graphs, activations of 128 tokens, pieces of tensors on their way to and from disk. */
const CONSTANT_BYTES = 128 * 2 ** 20

// A quarter of the width of the 7B model, which two busy cores do in time; `npm run bench -- memory` has its full width.
test('opening, calibrating and selecting take two blocks of weights and the statistics of one', async () => {
  const config = largeConfig(1024, 3)
  expect(config.intermediateSize).toBe(2752)
  const weights = BLOCK_LINEARS.map((linear) => linearShape(config, linear)).reduce(
    (sum, [rows, cols]) => sum + 4 * rows * cols,
    0,
  )
  const statistics = 4 * [...statisticTensors(config).values()].reduce((sum, length) => sum + length, 0)
  const bound = 2 * weights + statistics + CONSTANT_BYTES
  const sizes = { samples: 2, length: 64, threads: 2 }
  const peaks = await measurePeakMemory(temporaryDir(), config, { ...sizes, method: 'copal' })
  expect(peaks.openBytes).toBeLessThan(bound)
  expect(peaks.calibrateBytes).toBeLessThan(bound)
  expect(peaks.selectBytes).toBeLessThan(bound)
  // What is measured is the real thing: a block and its sums have to be there.
  expect(peaks.calibrateBytes).toBeGreaterThan(weights + statistics)
  const { peakBytes } = estimateCost(config, { ...sizes, domains: 1, methods: ['copal'] })
  const measured = peaks.ownBytes + Math.max(peaks.calibrateBytes, peaks.selectBytes)
  expect(peakBytes / measured).toBeGreaterThan(1 / 1.5)
  expect(peakBytes / measured).toBeLessThan(1.5)
}, 180_000)
