import { PAGE_TOKENS } from '../contract/backend.ts'
import type { KvPrecision } from '../../../native/addon.d.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'

/** Bounds of the scheduler. Token counts unless stated otherwise. */
export interface EnginePolicy {
  contextLength: number
  /**
   * Key/value budget over all sequences, in whole pages. At least `contextLength`, so that one request always fits.
   */
  kvTokens: number
  /** Requests in prefill or decode at once. */
  maxRunning: number
  /** Requests that may wait for their first step; one more is rejected as `overloaded`. */
  maxWaiting: number
  /** Texts to score that may wait or run. */
  maxScores: number
  /** Generated tokens over all requests that clients have not read: 90 bytes each, 1,500 with 20 alternatives. */
  maxUnread: number
  /** Prefill chunks end at multiples of this, whatever else runs, so that results do not depend on load. */
  prefillChunk: number
  /**
   * Tokens of requests in one step; at least `maxRunning + prefillChunk`, so that no running request waits for a prompt.
   * A piece of scoring comes on top.
   */
  stepTokens: number
  /** Most tokens of a step that has drafts; 0 for no drafts. */
  draftTokens: number
  /** Tokens of one piece of scoring beside requests. */
  scoreChunk: number
  /** Share of the work that scoring may take from requests, 0 to 0.5; 0 scores only while there are none. */
  scoringShare: number
  /** Part of the key/value budget that requests leave to scoring, in whole pages; 0 where it is one context. */
  scoreKvTokens: number
}

/** Most tokens of a text that is scored, its context among them, so that the pages of scoring have room for it. */
export const MAX_SCORE_TOKENS = 512

/** Default of {@link EnginePolicy.scoringShare}. */
const SCORING_SHARE = 0.05
/** Largest share of scoring. */
export const MAX_SCORING_SHARE = 0.5

/** Default of {@link EnginePolicy.draftTokens}: a chunk of the sparse kernels, whose tokens share one reading of the weights. */
const DRAFT_TOKENS = 8

/** Full contexts that the key/value budget holds where memory allows. */
const KV_CONTEXTS = 4
/** Share of the memory that is free at the start of a node that keys and values may take; the rest is for weights. */
const KV_SHARE = 1 / 4
const MIN_KV_TOKENS = 1024
/** Bytes of an element of keys in the sparse engine, and of the scale that those of a head share. */
const KEY_BYTES = { f16: { element: 2, scale: 0 }, int8: { element: 1, scale: 4 } }
/** Tokens of the pages that scoring and self-tests have beside those of requests. */
const OTHER_KV_TOKENS = 1024

/** What limits keys and values beside the free memory. */
interface KvStorage {
  /** The largest buffer, bytes; no limit by default. */
  maxBufferBytes?: number
  /** f16 by default. */
  kvPrecision?: KvPrecision
}

/**
 * Returns the default key/value budget in tokens: four contexts, or less where a quarter of the free memory is smaller, or
 * where a layer's keys do not fit the largest buffer.
 */
export function defaultKvTokens(
  {
    contextLength,
    layers,
    kvHeads,
    headDim,
  }: Pick<LlamaConfig, 'contextLength' | 'layers' | 'kvHeads' | 'headDim'>,
  freeBytes: number,
  { maxBufferBytes = Number.POSITIVE_INFINITY, kvPrecision = 'f16' }: KvStorage = {},
): number {
  const { element, scale } = KEY_BYTES[kvPrecision]
  const keyBytes = kvHeads * (element * headDim + scale)
  const fit = Math.floor((freeBytes * KV_SHARE) / (2 * keyBytes * layers))
  const inBuffer = Math.floor(maxBufferBytes / keyBytes) - OTHER_KV_TOKENS
  return Math.min(KV_CONTEXTS * contextLength, Math.max(MIN_KV_TOKENS, Math.min(fit, inBuffer)))
}

/**
 * Completes a policy for a model of `modelContextLength` tokens. The defaults suit a backend that steps sequences in turn
 * on a CPU, where a prefill chunk of 64 tokens keeps steps well below 200 ms. With a key/value budget below the model's
 * context, the budget is the context. Budgets are rounded up to whole pages.
 * Scoring gets what one context leaves of the key/value budget, at most {@link MAX_SCORE_TOKENS} and one context.
 *
 * @throws RangeError when a bound is not positive, or steps are too short for what may run
 */
export function createPolicy(modelContextLength: number, bounds: Partial<EnginePolicy> = {}): EnginePolicy {
  const kvTokens = bounds.kvTokens ?? KV_CONTEXTS * modelContextLength
  const maxRunning = bounds.maxRunning ?? 8
  const prefillChunk = bounds.prefillChunk ?? 64
  const least = maxRunning + prefillChunk
  const contextLength = Math.min(bounds.contextLength ?? modelContextLength, kvTokens)
  const policy: EnginePolicy = {
    maxWaiting: 64,
    maxScores: 32,
    maxUnread: 262_144,
    stepTokens: least,
    draftTokens: DRAFT_TOKENS,
    scoreChunk: 32,
    scoringShare: SCORING_SHARE,
    ...bounds,
    contextLength,
    kvTokens: wholePages(kvTokens),
    scoreKvTokens: Math.min(
      wholePages(bounds.scoreKvTokens ?? Math.min(MAX_SCORE_TOKENS, contextLength)),
      wholePages(kvTokens) - wholePages(contextLength),
    ),
    maxRunning,
    prefillChunk,
  }
  const { scoringShare, scoreKvTokens, draftTokens, ...counts } = policy
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new RangeError(`${name} is ${value}, expected a positive integer`)
  }
  for (const [name, value] of Object.entries({ scoreKvTokens, draftTokens }))
    if (!(value >= 0)) throw new RangeError(`${name} is ${value}, expected 0 or more`)
  if (!(scoringShare >= 0 && scoringShare <= MAX_SCORING_SHARE))
    throw new RangeError(`scoringShare is ${scoringShare}, expected a share from 0 to ${MAX_SCORING_SHARE}`)
  if (policy.stepTokens < least) {
    throw new RangeError(
      `stepTokens is ${policy.stepTokens}, expected at least maxRunning + prefillChunk = ${least}`,
    )
  }
  return policy
}

function wholePages(tokens: number): number {
  return Math.ceil(tokens / PAGE_TOKENS) * PAGE_TOKENS
}
