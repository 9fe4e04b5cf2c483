import { PAGE_TOKENS } from '../contract/backend.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'

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
  /** Of all answers together, tokens that were made and nobody has read: 90 bytes each, with 20 alternatives 1,500. */
  maxUnread: number
  /** A prompt is fed in pieces that end at multiples of this, whatever else runs, so that results do not depend on load. */
  prefillChunk: number
  /** Tokens of one step; at least `maxRunning + prefillChunk`, so that no running request ever waits for a prompt. */
  stepTokens: number
  /** A piece of scoring beside running requests. */
  scoreChunk: number
  /** Steps with request work between two pieces of scoring. */
  scoreEverySteps: number
}

/** Contexts that the key/value budget holds where there is memory. */
const KV_CONTEXTS = 4
/** Of the memory that is free when a node starts, what keys and values may take: weights come beside them. */
const KV_SHARE = 1 / 4
/** Less serves nobody. */
const LEAST_KV_TOKENS = 1024
/** Of a key and a value in the sparse engine, f16 each. */
const PAIR_BYTES = 4

/** The key/value budget of a node that was told none: four contexts, or what a quarter of the free memory holds. */
export function defaultKvTokens(
  {
    contextLength,
    layers,
    kvHeads,
    headDim,
  }: Pick<LlamaConfig, 'contextLength' | 'layers' | 'kvHeads' | 'headDim'>,
  freeBytes: number,
): number {
  const fit = Math.floor((freeBytes * KV_SHARE) / (PAIR_BYTES * layers * kvHeads * headDim))
  return Math.min(KV_CONTEXTS * contextLength, Math.max(LEAST_KV_TOKENS, fit))
}

/**
 * Completes a policy for a model of `modelContextLength` tokens; the defaults suit a backend that
 * steps sequences in turn on a CPU, where a prompt piece of 64 tokens keeps steps well below 200 ms.
 * With a key/value budget below the model's context, the budget is the context. Budgets are rounded up to whole pages.
 *
 * @throws RangeError when a bound is not positive, or steps are too short for what may run
 */
export function createPolicy(modelContextLength: number, bounds: Partial<EnginePolicy> = {}): EnginePolicy {
  const kvTokens = bounds.kvTokens ?? KV_CONTEXTS * modelContextLength
  const maxRunning = bounds.maxRunning ?? 8
  const prefillChunk = bounds.prefillChunk ?? 64
  const least = maxRunning + prefillChunk
  const policy: EnginePolicy = {
    maxWaiting: 64,
    maxScores: 32,
    maxUnread: 262_144,
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
