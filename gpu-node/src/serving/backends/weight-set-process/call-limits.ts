import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import { parameterCount, type DenseModel } from '../../../model/master/dense-model.ts'
import { MAX_IDLE_MS, type HangLimits } from '../../../platform/hang-watch.ts'

/** Model and sizes by which the limits of a call are told. */
export type SizedModel = Pick<DenseModel, 'master'> & {
  config: Pick<LlamaConfig, 'layers' | 'heads' | 'headDim'>
}

/** The size of a sequence's work: that of `SequenceWork`. */
interface WorkSize {
  tokens: { readonly length: number }
  position: number
}

/** Operations that a thread computes a millisecond at least; most compute 20 times as many. */
const LEAST_OPERATIONS_PER_MS = 1e6
/** Processor time that a call may use on each thread whatever it computes. */
const BASE_MS = 60_000
/** Longest limit: an hour suffices for 512 tokens of 70 billion weights on a single thread at 20 · 10⁹ operations a second. */
const MAX_CALL_MS = 60 * 60_000
/** A load takes as many operations as a step of so many tokens, at most: it reads, packs and tries the weights. */
const LOAD_TOKENS = 512

/** Returns a function that counts the operations of a step of a model, a multiplication and an addition being two. */
export function operationCounter({
  config: { layers, heads, headDim },
  master,
}: SizedModel): (work: readonly WorkSize[]) => number {
  const ofWeights = 2 * parameterCount({ master })
  const ofPosition = 4 * layers * heads * headDim
  return (work) =>
    work.reduce(
      (sum, { tokens: { length }, position }) =>
        sum + length * (ofWeights + ofPosition * (position + length)),
      0,
    )
}

/**
 * Returns a function that tells when a call of a model's weight set counts as hanging: of a step by what it computes, of a load
 * without it. Its threads may wait for each other by computing, so each may use the processor time that all of its operations would
 * take on a single slow thread.
 */
export function callLimits(model: SizedModel): (work?: readonly WorkSize[]) => HangLimits {
  const operationsOf = operationCounter(model)
  const loadOperations = LOAD_TOKENS * 2 * parameterCount(model)
  return (work) => ({
    idleMs: MAX_IDLE_MS,
    workMs: Math.min(
      MAX_CALL_MS,
      BASE_MS + (work ? operationsOf(work) : loadOperations) / LEAST_OPERATIONS_PER_MS,
    ),
  })
}
