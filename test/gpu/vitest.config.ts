import { resolve } from 'node:path'
import { defineConfig } from 'vitest/config'

/** Everything that runs on a GPU, one file at a time, because they share the device: `npm run test:gpu`. */
export default defineConfig({
  root: resolve(import.meta.dirname, '../..'),
  test: {
    name: 'gpu',
    include: [
      'test/gpu/**/*.test.ts',
      'test/gpu-node/gpu/**/*.test.ts',
      'test/gpu-node/serving/backends/gpu/**/*.test.ts',
      'test/gpu-node/serving/backends/{contract,backend-memory}.test.ts',
      'test/gpu-node/pruning/calibration/device-block-runner.test.ts',
      'test/gpu-node/pruning/refinement/device-exchange.test.ts',
      'test/gpu-node/pruning/runs/gpu-calibration.test.ts',
      'test/gpu-node/bench/engine/gpu.test.ts',
      'test/e2e/gpu.test.ts',
    ],
    fileParallelism: false,
    // A software driver takes minutes for a real model.
    testTimeout: 3_600_000,
    hookTimeout: 600_000,
    expect: { poll: { timeout: 300_000 } },
  },
})
