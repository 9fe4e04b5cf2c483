import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { WeightSet } from '../../contract/backend.ts'
import type { Engine } from '../../engine/engine-api.ts'
import { reasonOf, type Log } from '../../../platform/log.ts'
import type { TextCodec } from '../../../model/tokenizer/text-codec.ts'
import { isExpectedScoringFailure, sum } from './score-outcome.ts'

/** Shortest client text that is scored; a shorter one says too little about drift. */
const MIN_TOKENS = 16

/** Tokens of a text that are scored. Drift is a mean over many texts, so the beginning suffices and receipts wait less. */
const MAX_TOKENS = 256

/** Characters that give `MAX_TOKENS` tokens in all but unusual text. */
const MAX_CHARACTERS = 8 * MAX_TOKENS

/** Parts that drift scoring needs. */
export interface DriftDeps {
  engine: Pick<Engine, 'score' | 'policy'>
  denseWeights: () => WeightSet | null
  log: Log
  scoreTimeoutMs: number
}

/** Tokenises the part of a client's text that is scored. */
export function clientTextTokens(codec: Pick<TextCodec, 'encodeDocument'>, text: string): number[] {
  return codec.encodeDocument(text.slice(0, MAX_CHARACTERS))
}

/**
 * Scores a client's own text at low priority, under the weights that generated the response and under dense weights.
 *
 * Only the client's text is scored: generated text would favour the weights that generated it, and the template's tokens
 * say nothing about the domain.
 *
 * @param clientText returns the client's text as tokens; at most the first 256 are scored
 * @returns sums over the same `tokens` tokens (all but the first). Null when the text was not scored: it is too short, no
 *   dense set is loaded, scoring took too long or failed, or a score is not finite, which JSON cannot represent. A
 *   receipt also carries null when its request was not sampled; the two cases are not distinguished, because drift is a
 *   mean over samples and a missing one does no harm.
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
    // Under load some texts are not scored, by design. Other failures are logged.
    if (!isExpectedScoringFailure(error)) {
      deps.log.warn('a sampled text was not scored', { version: weights.version, reason: reasonOf(error) })
    }
    return null
  }
}
