import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { BoundedMean } from '@copal/shared/metrics/paired-bound.ts'
import { perplexity } from '@copal/shared/metrics/perplexity.ts'
import type { GateHoldout, OtherNumerics } from './gate-input.ts'

/** Figures that no operator can override: a mask that fails one of them gives no text. */
export const SOUNDNESS_FIGURES = ['finite loss', 'finite logits', 'repetition', 'entropy'] as const

/** Names of the figures that compare a mask with another; their numbers are ratios of perplexities. */
export const COMPARISONS = {
  parent: 'perplexity / parent',
  best: 'perplexity / best',
  dense: 'perplexity / dense',
  own: 'perplexity / shared',
  purpose: 'perplexity / parent, weighted',
} as const

/** Beginning of the note of a figure of several holdouts; their names follow, joined by `, `. */
export const TOGETHER = 'together: '

/** Name of the figure of a mask whose losses cannot be compared. */
export const NUMERICS_FIGURE = 'numerics'

/** Creates a figure; what is left out is null. */
export function figure(
  name: string,
  passed: boolean,
  rest: Partial<Omit<DecisionFigure, 'name' | 'passed'>> = {},
): DecisionFigure {
  return {
    name,
    domain: null,
    holdout: null,
    tokens: null,
    value: null,
    lower: null,
    upper: null,
    limit: null,
    passed,
    ...rest,
  }
}

/** Creates a figure of a bounded ratio of perplexities. Its upper bound must be at most `limit`, or below it if `isStrict`. */
export function ratioFigure(
  name: string,
  bounded: BoundedMean,
  limit: number,
  rest: Partial<DecisionFigure>,
  isStrict = false,
): DecisionFigure {
  const upper = perplexity(bounded.upper)
  const note = Number.isFinite(bounded.upper) ? {} : { note: 'too few windows of held-out text for a bound' }
  return figure(name, isStrict ? upper < limit : upper <= limit, {
    value: finiteOrNull(perplexity(bounded.mean)),
    lower: finiteOrNull(perplexity(bounded.lower)),
    upper: finiteOrNull(upper),
    limit,
    ...note,
    ...rest,
  })
}

/** Creates a figure of a ratio of perplexities that has no bound: the ratio itself must be at most `limit`. */
export function pointFigure(
  name: string,
  logRatio: number,
  limit: number,
  rest: Partial<DecisionFigure>,
): DecisionFigure {
  const value = perplexity(logRatio)
  return figure(name, value <= limit, { value: finiteOrNull(value), limit, ...rest })
}

/** Creates the figure of a mask that was measured with other numerics than what it is compared with; none if there is no such mask. */
export function numericsFigures(otherNumerics: OtherNumerics | undefined): DecisionFigure[] {
  if (!otherNumerics) return []
  const { candidate, version, domain, numerics } = otherNumerics
  const other = version === 0 ? 'the dense model' : `m${version}`
  const note =
    `it was measured in ${numericsName(candidate)}, but ${other} on '${domain}' in ${numericsName(numerics)}, and no node ` +
    'could measure both alike'
  return [figure(NUMERICS_FIGURE, false, { note })]
}

function numericsName(numerics: string | null): string {
  return numerics === null ? 'a precision that its node does not name' : `'${numerics}'`
}

/** Returns the part of a figure that names its holdout. */
export function ofHoldout({ domain, sha256, windowTokens }: GateHoldout): Partial<DecisionFigure> {
  return { domain, holdout: sha256, tokens: windowTokens.reduce((sum, tokens) => sum + tokens, 0) }
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null
}
