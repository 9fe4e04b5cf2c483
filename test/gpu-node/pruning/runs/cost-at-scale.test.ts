import { expect, test } from 'vitest'
import { statisticTensorSizes } from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { estimateCost } from '../../../../gpu-node/src/pruning/runs/cost-estimate.ts'
import {
  BLOCK_LINEARS,
  linearShape,
  type LlamaConfig,
} from '../../../../gpu-node/src/model/config/llama-config.ts'
import { largeConfig } from '../../../../gpu-node/bench/memory/large-llama.ts'
import { measurePeakMemory } from '../../../../gpu-node/bench/memory/peak-memory.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

/** The runtime's code and graphs, activations of 128 tokens, pieces of tensors on their way to and from disk. */
const CONSTANT_BYTES = 128 * 2 ** 20

const SIZES = { samples: 2, length: 64, threads: 2 }

// A quarter of the width of the 7B model, which two busy cores do in time; `npm run bench -- memory` has its full width.
test('opening, calibrating and selecting take two blocks of weights and the statistics of one', async () => {
  const config = largeConfig(1024, 3)
  expect(config.intermediateSize).toBe(2752)
  const { weights, statistics, bound } = boundsOf(config)
  const { peaks, estimated } = await measure(config, 'copal')
  expect(peaks.openBytes).toBeLessThan(bound)
  expect(peaks.calibrateBytes).toBeLessThan(bound)
  expect(peaks.selectBytes).toBeLessThan(bound)
  // What is measured is the real thing: a block and its sums have to be there.
  expect(peaks.calibrateBytes).toBeGreaterThan(weights + statistics)
  expect(estimated).toBeGreaterThan(1 / 1.5)
  expect(estimated).toBeLessThan(1.5)
}, 180_000)

test.each([
  // H in full, once.
  { method: 'continual-wanda+swaps', moments: 8 },
  // Besides, in f32 and as its product takes it; and of 512 rows twenty arrays.
  { method: 'continual-wanda+swaps+reconstruct', moments: 16, ofRows: 80 },
])(
  'selecting by $method takes besides the second moment of the widest input in full',
  async ({ method, moments, ofRows = 0 }) => {
    const config = largeConfig(768, 1)
    const cols = config.intermediateSize
    const bound = boundsOf(config).bound + moments * cols ** 2 + ofRows * 512 * cols
    const { peaks, estimated } = await measure(config, method)
    expect(peaks.selectBytes).toBeLessThan(bound)
    expect(estimated).toBeGreaterThan(1 / 1.3)
    expect(estimated).toBeLessThan(1.3)
  },
  300_000,
)

/** Bytes of a block's weights and statistics, and of what a step takes that holds one block. */
function boundsOf(config: LlamaConfig) {
  const weights = BLOCK_LINEARS.map((linear) => linearShape(config, linear)).reduce(
    (sum, [rows, cols]) => sum + 4 * rows * cols,
    0,
  )
  const statistics = 4 * [...statisticTensorSizes(config).values()].reduce((sum, length) => sum + length, 0)
  return { weights, statistics, bound: 2 * weights + statistics + CONSTANT_BYTES }
}

/** Peaks above the process's own, and the estimate of all by what was measured. */
async function measure(config: LlamaConfig, method: string) {
  const peaks = await measurePeakMemory(temporaryDir(), config, { ...SIZES, method })
  const { peakBytes } = estimateCost(config, { ...SIZES, domains: 1, methods: [method] })
  const measured = peaks.ownBytes + Math.max(peaks.calibrateBytes, peaks.selectBytes)
  return { peaks, estimated: peakBytes / measured }
}
