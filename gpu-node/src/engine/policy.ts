/** Bounds that the scheduler keeps. Token counts unless said otherwise. */
export interface EnginePolicy {
  contextLength: number
  /** Key/value budget over all sequences; at least `contextLength`, so that one request always fits. */
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

/** Bounds for a model on a CPU backend that steps sequences in turn. */
export function defaultPolicy(contextLength: number): EnginePolicy {
  return {
    contextLength,
    kvTokens: 4 * contextLength,
    maxRunning: 8,
    maxWaiting: 64,
    maxScores: 64,
    prefillChunk: 64,
    stepTokens: 128,
    scoreChunk: 32,
    scoreEverySteps: 4,
  }
}

/** @throws RangeError when a policy could starve or overrun */
export function checkPolicy(policy: EnginePolicy): void {
  if (policy.kvTokens < policy.contextLength) {
    throw new RangeError(`kvTokens is ${policy.kvTokens}; one request may need ${policy.contextLength}`)
  }
  if (policy.stepTokens < policy.maxRunning + policy.prefillChunk) {
    throw new RangeError(
      `stepTokens is ${policy.stepTokens}; at least maxRunning + prefillChunk = ${policy.maxRunning + policy.prefillChunk} is needed`,
    )
  }
}
