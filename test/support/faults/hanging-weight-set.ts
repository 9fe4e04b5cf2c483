/** Runs the process of a weight set without weights, which behaves in its steps as its options say. */
import { open } from 'node:fs/promises'
import { serveWeightSet } from '../../../gpu-node/src/serving/backends/weight-set-process/serve-weight-set.ts'

/**
 * What a step does: waits for ever, computes for ever, computes for so long and blocks its thread, or waits for ever in a thread of
 * the pool, as for a driver, for a pipe to which nothing writes.
 */
export type StepBehaviour = 'wait' | 'loop' | { computeMs: number } | { pipe: string }

serveWeightSet(async (behaviour: StepBehaviour) => ({
  async step() {
    if (behaviour === 'wait') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    if (typeof behaviour === 'object' && 'pipe' in behaviour) await open(behaviour.pipe)
    const computeMs =
      typeof behaviour === 'object' && 'computeMs' in behaviour ? behaviour.computeMs : Infinity
    const endMs = performance.now() + computeMs
    while (performance.now() < endMs);
    return []
  },
}))
