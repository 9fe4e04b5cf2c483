import { PAGE_TOKENS } from '../backends/backend.ts'

/** Bounds that the scheduler keeps. Token counts unless said otherwise. */
export interface EnginePolicy {
  contextLength: number
  /**
   * Key/value budget over all sequences, in whole pages; at least `contextLength`, so that one request always
   * fits.
   */
  kvTokens: number
  /** Requests in prefill or decode at once. */
  maxRunning: number
  /** Requests that wait for their first step; one more is refused as overloaded. */
  maxWaiting: number
  /** Most texts to score that may wait or run. */
  maxScores: number
  /** A prompt is fed in pieces that end at multiples of this, whatever else runs, so that results do not depend on load. */
  prefillChunk: number
  /** Tokens of one step; at least `maxRunning + prefillChunk`, so that no running request ever waits for a prompt. */
  stepTokens: number
  /** A piece of scoring beside running requests. */
  scoreChunk: number
  /** Steps with request work between two pieces of scoring. */
  scoreEverySteps: number
}

/**
 * Completes a policy for a model of `modelContextLength` tokens; the defaults suit a backend that
 * steps sequences in turn on a CPU, where a prompt piece of 64 tokens keeps steps well below 200 ms.
 * With a key/value budget below the model's context, the budget is the context. Budgets are rounded up to whole pages.
 *
 * @throws RangeError when a bound is not positive, or steps are too short for what may run
 */
export function createPolicy(modelContextLength: number, bounds: Partial<EnginePolicy> = {}): EnginePolicy {
  const kvTokens = bounds.kvTokens ?? 4 * modelContextLength
  const maxRunning = bounds.maxRunning ?? 8
  const prefillChunk = bounds.prefillChunk ?? 64
  const least = maxRunning + prefillChunk
  const policy: EnginePolicy = {
    maxWaiting: 64,
    maxScores: 32,
    stepTokens: least,
    scoreChunk: 32,
    scoreEverySteps: 4,
    ...bounds,
    contextLength: Math.min(bounds.contextLength ?? modelContextLength, kvTokens),
    kvTokens: Math.ceil(kvTokens / PAGE_TOKENS) * PAGE_TOKENS,
    maxRunning,
    prefillChunk,
  }
  for (const [name, value] of Object.entries(policy)) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new RangeError(`${name} is ${value}; a positive integer is needed`)
  }
  if (policy.stepTokens < least) {
    throw new RangeError(
      `stepTokens is ${policy.stepTokens}; at least maxRunning + prefillChunk = ${least} is needed`,
    )
  }
  return policy
}
