/** Runs the process of a weight set without weights, which behaves in its steps as its options say. */
import { serveWeightSet } from '../../../gpu-node/src/serving/backends/onnx/serve-weight-set.ts'

/** What a step does: waits for ever, computes for ever, or computes for so long and blocks its thread. */
export type StepBehaviour = 'wait' | 'loop' | { computeMs: number }

serveWeightSet(async (behaviour: StepBehaviour) => ({
  async step() {
    if (behaviour === 'wait') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    const endMs =
      behaviour === 'loop' ? Infinity : performance.now() + (behaviour as { computeMs: number }).computeMs
    while (performance.now() < endMs);
    return []
  },
}))
