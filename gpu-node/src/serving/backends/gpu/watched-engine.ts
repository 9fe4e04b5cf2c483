import type { GpuEngine } from '../../../../gpu/addon.d.ts'
import type { EngineStep } from '../../../../native/addon.d.ts'
import type { AddonEngine } from '../sparse/model-engine.ts'
import { operationCounter, type SizedModel } from '../weight-set-process/call-limits.ts'
import type { CallWatch } from './call-watch.ts'

/** Operations that a GPU computes a millisecond at least; even one in a processor does ten times as many. */
const GPU_OPERATIONS_PER_MS = 1e7
/** Those of a software driver, which runs on the processor, of which little may be free. */
const SOFTWARE_OPERATIONS_PER_MS = 1e6
/** Time that a call may take whatever it computes. */
const BASE_MS = 60_000
/** Longest time of a call. Loads may take it: they read from a disk and pack on the processor, each of which may be slow. */
const MAX_CALL_MS = 60 * 60_000

/** Sizes of a step. */
type StepSize = Pick<EngineStep, 'lengths' | 'positions'>

/** Returns how long calls of an engine may take, milliseconds: of a step by what it computes, of anything else without it. */
export type CallTimeout = (step?: StepSize) => number

/** A call that computes nothing. */
const NO_STEP: StepSize = { lengths: new Int32Array(0), positions: new Int32Array(0) }

/** Returns the timeouts of an engine of this model: a minute at least, and far more than its device needs. */
export function callTimeouts(model: SizedModel, kind: GpuEngine['device']['kind']): CallTimeout {
  const operationsPerMs = kind === 'software' ? SOFTWARE_OPERATIONS_PER_MS : GPU_OPERATIONS_PER_MS
  const operationsOf = operationCounter(model)
  return (step) => {
    if (!step) return MAX_CALL_MS
    const work = Array.from(step.lengths, (length, index) => ({
      tokens: { length },
      position: step.positions[index] ?? 0,
    }))
    return Math.min(MAX_CALL_MS, BASE_MS + operationsOf(work) / operationsPerMs)
  }
}

/** Returns the engine with calls that are watched. */
export function watchedEngine(engine: GpuEngine, watch: CallWatch, timeoutMs: CallTimeout): AddonEngine {
  return {
    kernel: engine.kernel,
    candidates: engine.candidates,
    maxAdjusted: engine.maxAdjusted,
    load: (source, cancellation) => watch.run('a load', () => engine.load(source, cancellation), timeoutMs()),
    loadCancellation: () => engine.loadCancellation(),
    step: (weights, step) => watch.run('a step', () => engine.step(weights, step), timeoutMs(step)),
    downloadLogits: (rows) => watch.run('a download', () => engine.downloadLogits(rows), timeoutMs(NO_STEP)),
    logits: (row, into) => engine.logits(row, into),
    release: (weights) => watch.run('a release', () => engine.release(weights), timeoutMs()),
    close: () => watch.run('closing', () => engine.close(), timeoutMs()),
    usage: () => engine.usage(),
    provokePanic: () => engine.provokePanic(),
  }
}
