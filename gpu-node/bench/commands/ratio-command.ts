import { join } from 'node:path'
import type { Command } from 'commander'
import { benchCalibrationRatio } from '../pruning/calibration-ratio.ts'
import { createOnnxBackend } from '@copal/gpu-node/serving/backends/onnx/onnx-backend.ts'
import { count, openBenchModel, type Workbench } from './workbench.ts'

interface RatioOptions {
  samples: number
  length: number
  blocks: number
  windows: number
  repetitions: number
}

/** Adds the benchmark of calibration relative to dense forward passes. */
export function addRatio(program: Command, { home, threads, printAll }: Workbench): void {
  program
    .command('ratio')
    .description('time of calibration, relative to dense forward passes over the same tokens')
    .option('--samples <n>', 'calibration sequences', count, 16)
    .option('--length <n>', 'tokens per sequence', count, 2048)
    .option('--blocks <n>', 'blocks to calibrate', count, 2)
    .option('--windows <n>', 'windows of the forward pass', count, 1)
    .option('--repetitions <n>', 'number of interleaved repetitions', count, 5)
    .action(async (options: RatioOptions) => {
      const model = await openBenchModel()
      const backend = createOnnxBackend({ workDir: join(home, 'work') })
      const weights = await backend.load({ model, version: 0, maskPath: null, priority: 'background' })
      printAll(await benchCalibrationRatio(model, { backend, weights }, { ...options, threads }))
      await backend.release(weights)
    })
}
