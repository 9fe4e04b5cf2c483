/** Runs the process of one weight set with ONNX Runtime: its session, its key/value cache and its sampling. */
import { numericsOf } from '@copal/shared/metrics/numerics.ts'
import { enterBackground } from '../../../platform/background-priority.ts'
import { serveWeightSet } from '../weight-set-process/serve-weight-set.ts'
import { loadRunner, type OnnxLoadOptions } from './load-onnx-runner.ts'

serveWeightSet(async (options: OnnxLoadOptions) => {
  // Before the runtime starts its threads, which inherit the priority.
  if (options.background) enterBackground()
  const runner = await loadRunner(options)
  const numerics = numericsOf({ precision: 'f32', headPrecision: 'f32' })
  return { numerics, step: (work, drop) => runner.step(work, drop) }
})
