import type { PatternRules } from '@copal/shared/wire/selection.ts'
import { expect, test } from 'vitest'
import { statisticTensorSizes } from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { neededStatistics } from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import { estimateCost } from '../../../../gpu-node/src/pruning/runs/cost-estimate.ts'
import {
  BLOCK_LINEARS,
  linearShape,
  type LlamaConfig,
} from '../../../../gpu-node/src/model/config/llama-config.ts'
import { largeConfig } from '../../../../gpu-node/bench/memory/large-llama.ts'
import { measurePeakMemory } from '../../../../gpu-node/bench/memory/peak-memory.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

/** Allowance for the runtime's code and graphs, activations of 128 tokens, and pieces of tensors read and written. */
const CONSTANT_BYTES = 128 * 2 ** 20

const SIZES = { samples: 2, length: 64, threads: 2 }
/** Garbage is collected with the work, not on threads of its own, which run late on a busy machine. */
const FLAGS = ['--single-threaded-gc']
/** Generous for a busy machine: two threads that wait for each other are slow beside others. */
const TIMEOUT_MS = 900_000

// A quarter of the width of the 7B model, so that two busy cores finish in time; `npm run bench -- memory` uses its full width.
test(
  'opening, calibrating and selecting take two blocks of weights and the statistics of one',
  async () => {
    const config = largeConfig(1024, 3)
    expect(config.intermediateSize).toBe(2752)
    const { weights, statistics, bound } = boundsOf(config)
    const { peaks, estimated } = await measure(config, 'copal')
    expect(peaks.openBytes).toBeLessThan(bound)
    expect(peaks.calibrateBytes).toBeLessThan(bound)
    expect(peaks.selectBytes).toBeLessThan(bound)
    // A lower bound: a block and its sums must be in memory.
    expect(peaks.calibrateBytes).toBeGreaterThan(weights + statistics)
    expect(estimated).toBeGreaterThan(1 / 1.5)
    expect(estimated).toBeLessThan(1.5)
  },
  TIMEOUT_MS,
)

test.each([
  // One full H.
  { method: 'continual-wanda+swaps', moments: 8 },
  {
    method: 'continual-wanda+swaps+reconstruct',
    // In addition H in f32 and as input of the product, and twenty arrays of 512 rows.
    moments: 16,
    ofRows: 80,
    // The linear with the widest input and the one before it, whose memory must be freed: solving for others adds only time.
    patterns: { '*': 'dense', '*.mlp.up_proj.weight': '0.5', '*.mlp.down_proj.weight': '0.5' },
  },
])(
  'the memory of selection by $method, in addition to the full second moment of the widest input',
  async ({ method, moments, ofRows = 0, patterns }) => {
    const config = largeConfig(768, 1)
    const cols = config.intermediateSize
    const bound = boundsOf(config).bound + moments * cols ** 2 + ofRows * 512 * cols
    const { peaks, estimated } = await measure(config, method, patterns)
    expect(peaks.selectBytes).toBeLessThan(bound)
    expect(estimated).toBeGreaterThan(1 / 1.3)
    expect(estimated).toBeLessThan(1.3)
  },
  TIMEOUT_MS,
)

/** Returns the bytes of a block's weights and statistics, and of a step with one block in memory. */
function boundsOf(config: LlamaConfig) {
  const weights = BLOCK_LINEARS.map((linear) => linearShape(config, linear)).reduce(
    (sum, [rows, cols]) => sum + 4 * rows * cols,
    0,
  )
  const statistics = 4 * [...statisticTensorSizes(config).values()].reduce((sum, length) => sum + length, 0)
  return { weights, statistics, bound: 2 * weights + statistics + CONSTANT_BYTES }
}

/** Returns the peaks above the memory of the process, and the ratio of the estimate to the measured peak. */
async function measure(config: LlamaConfig, method: string, patterns?: PatternRules) {
  // Fewer tokens give a second moment of lower rank, for which reconstruction needs fewer iterations.
  const sizes = patterns ? { ...SIZES, samples: 1, length: 16 } : SIZES
  const peaks = await measurePeakMemory(temporaryDir(), config, { ...sizes, method, patterns }, FLAGS)
  const statistics = neededStatistics({ selection: { method } })
  const { peakBytes } = estimateCost(config, { ...sizes, domains: 1, methods: [method], statistics })
  const measured = peaks.ownBytes + Math.max(peaks.calibrateBytes, peaks.selectBytes)
  return { peaks, estimated: peakBytes / measured }
}
