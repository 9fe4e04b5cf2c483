/** Runs the process of one weight set with ONNX Runtime: its session, its key/value cache and its sampling. */
import { enterBackground } from '../../../platform/background-priority.ts'
import { loadRunner } from './load-onnx-runner.ts'
import { serveWeightSet } from './serve-weight-set.ts'
import type { LoadOptions } from './weight-set-protocol.ts'

serveWeightSet((options: LoadOptions) => {
  // Before the runtime starts its threads, which inherit the priority.
  if (options.background) enterBackground()
  return loadRunner(options)
})
