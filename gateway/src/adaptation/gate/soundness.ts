import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { perplexity } from '@copal/shared/metrics/perplexity.ts'
import { figure, SOUNDNESS_FIGURES } from './gate-figures.ts'
import type { GateHoldout, GateInput, HoldoutLosses } from './gate-input.ts'

/** Repetition that is no sign of noise even where the dense model repeats nothing; greedy decoding of small models loops. */
const ALLOWED_REPETITION = 0.9
/** Repetition above the dense model's. */
const ALLOWED_MORE_REPETITION = 0.3
/** Entropy above the dense model's, nats. */
const ALLOWED_MORE_ENTROPY = 3

/** Returns whether the losses are finite, and so is the perplexity. */
export function isFiniteLoss({ nllMean, windowNll }: HoldoutLosses): boolean {
  if (nllMean === null || !Number.isFinite(perplexity(nllMean))) return false
  return windowNll?.every((loss) => loss !== null) ?? true
}

/** Checks that a mask gives text at all: finite losses and logits, and generation that neither loops nor is noise. */
export function soundnessFigures({ holdouts, generation }: GateInput): DecisionFigure[] {
  const [loss, logits, repetition, entropy] = SOUNDNESS_FIGURES
  const { candidate, dense } = generation
  const maxRepetition = Math.min(1, Math.max(ALLOWED_REPETITION, dense.repetition + ALLOWED_MORE_REPETITION))
  const maxEntropy = (dense.entropy ?? 0) + ALLOWED_MORE_ENTROPY
  const infinite = holdouts.filter((holdout) => !isFiniteLoss(holdout.candidate))
  return [
    lossFigure(loss, infinite),
    figure(logits, candidate.finite, { tokens: candidate.tokens }),
    figure(repetition, candidate.repetition <= maxRepetition, {
      tokens: candidate.tokens,
      value: candidate.repetition,
      limit: maxRepetition,
    }),
    figure(entropy, candidate.entropy !== null && candidate.entropy <= maxEntropy, {
      tokens: candidate.tokens,
      value: candidate.entropy,
      limit: maxEntropy,
    }),
  ]
}

function lossFigure(name: string, infinite: readonly GateHoldout[]): DecisionFigure {
  const [first] = infinite
  if (!first) return figure(name, true)
  const { domain, sha256 } = first
  const more = infinite.length > 1 ? ` and on ${infinite.length - 1} more` : ''
  return figure(name, false, { domain, holdout: sha256, note: `not finite on ${domain}${more}` })
}
