import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import { parameterCount, type DenseModel } from '../../../model/master/dense-model.ts'
import { MAX_IDLE_MS, type HangLimits } from '../../../platform/hang-watch.ts'
import type { SequenceWork } from '../../contract/backend.ts'

/** Model and sizes by which the limits of a call are told. */
type SizedModel = Pick<DenseModel, 'master'> & {
  config: Pick<LlamaConfig, 'layers' | 'heads' | 'headDim'>
}

/** Operations that a thread computes a second at least, a multiplication and an addition being two; most do 20 times as many. */
const LEAST_OPERATIONS_PER_MS = 1e6
/** Processor time that a call may use on each thread whatever it computes. */
const BASE_MS = 60_000
/** Longest limit: an hour suffices for 512 tokens of 70 billion weights on a single thread at 20 · 10⁹ operations a second. */
const MAX_CALL_MS = 60 * 60_000
/** A load takes as many operations as a step of so many tokens, at most: it reads, packs and tries the weights. */
const LOAD_TOKENS = 512

/**
 * Returns when a call of a weight set counts as hanging. Its threads may wait for each other by computing, so each may use the time
 * that all of its operations would take on a single slow thread.
 *
 * @param work what a step computes; undefined for a load
 */
export function callLimits(
  { config: { layers, heads, headDim }, master }: SizedModel,
  work?: readonly Pick<SequenceWork, 'tokens' | 'position'>[],
): HangLimits {
  const weights = parameterCount({ master })
  const computed = work?.map(({ tokens, position }) => [tokens.length, position + tokens.length] as const)
  const operations = (computed ?? [[LOAD_TOKENS, 0] as const]).reduce(
    (sum, [tokens, context]) => sum + tokens * (2 * weights + 4 * layers * heads * headDim * context),
    0,
  )
  return {
    idleMs: MAX_IDLE_MS,
    workMs: Math.min(MAX_CALL_MS, BASE_MS + operations / LEAST_OPERATIONS_PER_MS),
  }
}
