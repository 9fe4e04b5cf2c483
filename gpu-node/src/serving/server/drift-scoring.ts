import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { Engine } from '../engine/engine-api.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import { isExpectedScoringFailure, sum } from './score-outcome.ts'

/** A client's text shorter than this says too little about drift. */
const MIN_TOKENS = 16

/** Drift is a mean over many texts: the beginning of each is enough, and keeps receipts from waiting. */
const MAX_TOKENS = 256

/** Characters of which so many tokens are made, of all but the oddest text. */
const MAX_CHARACTERS = 8 * MAX_TOKENS

/** What scoring needs. */
export interface DriftDeps {
  engine: Pick<Engine, 'score' | 'policy'>
  denseWeights: () => WeightSet | null
  log: Log
  scoreTimeoutMs: number
}

/** The tokens of a client's text, as far as they are scored. */
export function clientTextTokens(codec: Pick<TextCodec, 'encodeDocument'>, text: string): number[] {
  return codec.encodeDocument(text.slice(0, MAX_CHARACTERS))
}

/**
 * Scores a client's own text under the weights that answered and under dense, at low priority.
 *
 * Only what the client wrote is scored: text that the model generated would flatter the weights
 * that generated it, and the template's tokens say nothing about the domain.
 *
 * @param clientText the client's text as tokens; at most the first 256 are scored
 * @returns sums over the same `tokens` tokens (all but the first), or null when there is too little
 *   text, no dense set, no time, or no finite score: drift is sampled, so a missing figure costs nothing but
 *   itself, while one that JSON cannot carry would cost the receipt
 */
export async function scoreDrift(
  deps: DriftDeps,
  weights: WeightSet,
  clientText: () => readonly number[],
): Promise<Receipt['drift']> {
  const dense = weights.version === 0 ? weights : deps.denseWeights()
  if (!dense) return null
  try {
    const text = clientText().slice(0, Math.min(MAX_TOKENS, deps.engine.policy.contextLength))
    if (text.length < MIN_TOKENS) return null
    const signal = AbortSignal.timeout(deps.scoreTimeoutMs)
    const nllMasked = sum(await deps.engine.score({ weights, tokens: text, signal }))
    const nllDense =
      dense === weights ? nllMasked : sum(await deps.engine.score({ weights: dense, tokens: text, signal }))
    if (!Number.isFinite(nllMasked) || !Number.isFinite(nllDense)) {
      const reason = `its negative log-likelihood is ${nllMasked} masked and ${nllDense} dense`
      deps.log.warn('a sampled text was not scored', { version: weights.version, reason })
      return null
    }
    return { tokens: text.length - 1, nllMasked, nllDense }
  } catch (error) {
    // Under load some texts go unscored, by design; anything else is worth a line.
    if (!isExpectedScoringFailure(error)) {
      deps.log.warn('a sampled text was not scored', { version: weights.version, reason: reasonOf(error) })
    }
    return null
  }
}
