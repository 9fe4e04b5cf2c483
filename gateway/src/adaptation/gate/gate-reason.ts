import { listNames, percentOf } from '@copal/shared/phrases.ts'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { confidenceName } from './candidate-confidence.ts'
import { COMPARISONS, NUMERICS_FIGURE, TOGETHER } from './gate-figures.ts'

/** Describes a verdict in a sentence: the purpose of a mask that passed, the worst figure of one that failed. */
export function describeVerdict(figures: readonly DecisionFigure[], confidence: number): string {
  const failed = figures.filter(({ passed }) => !passed)
  const [worst] = failed.toSorted((a, b) => excessOf(b) - excessOf(a))
  if (!worst) return describePassed(figures, confidence)
  const others = failed.length - 1
  const misses = others === 1 ? 'misses its limit' : 'miss their limits'
  const more = others > 0 ? ` ${others} more of its figures ${misses}.` : ''
  return describeFailed(worst) + more
}

function describePassed(figures: readonly DecisionFigure[], confidence: number): string {
  const purpose = figures.find(({ name }) => name === COMPARISONS.purpose)
  if (!purpose) {
    const worst = Math.max(
      ...figures.flatMap(({ value, name }) => (name === COMPARISONS.dense ? (value ?? []) : [])),
    )
    return `Its perplexity is at most ${times(worst)} that of the dense model on every holdout.`
  }
  return (
    `Its perplexity over all domains${purpose.note === undefined ? '' : ` (${purpose.note})`} is ${times(purpose.value)} that of the active mask, and with ` +
    `${confidenceName(confidence)} confidence at most ${times(purpose.upper)}. No domain loses more than the policy allows.`
  )
}

function describeFailed({ name, domain, value, upper, limit, note }: DecisionFigure): string {
  const members = note?.startsWith(TOGETHER) ? note.slice(TOGETHER.length).split(', ') : undefined
  const where = subjectOf(domain, members)
  switch (name) {
    case 'finite loss':
      return `Its loss is ${note ?? 'not finite'}.`
    case 'finite logits':
      return 'It generates logits that are not finite.'
    case 'repetition':
      return `It repeats ${percentOf(value ?? 1)} of its output; at most ${percentOf(limit ?? 1)} are allowed.`
    case 'entropy':
      return value === null
        ? 'The entropy of its output is not finite.'
        : `Its output is close to noise: the entropy is ${value.toFixed(2)} nats; at most ${limit?.toFixed(2)} are allowed.`
    case COMPARISONS.dense:
      return `Its perplexity${where} is ${times(value)} that of the dense model; at most ${times(limit)} is allowed.`
    case COMPARISONS.own: {
      const bound = upper === null ? (note ?? 'no upper bound') : `an upper bound of ${times(upper)}`
      return `Its perplexity${where} is ${times(value)} that of the shared mask, with ${bound}; at most ${times(limit)} is allowed.`
    }
    case COMPARISONS.purpose:
      return (
        `Its perplexity over all domains is ${times(value)} that of the active mask, with an upper bound of ` +
        `${times(upper)}; ${limit === 1 ? 'a bound below 1 ×' : `at most ${times(limit)}`} is required.`
      )
    case COMPARISONS.parent:
    case COMPARISONS.best: {
      const bound = upper === null ? '' : `, with an upper bound of ${times(upper)}`
      const isBest = name === COMPARISONS.best
      const unproven = !isBest && !members && upper === null && note !== undefined ? ` (${note})` : ''
      const best = members ? 'their best masks' : `its best mask (${note})`
      const reference = isBest ? best : 'the active mask'
      return `Its perplexity${where} is ${times(value)} that of ${reference}${bound}${unproven}; at most ${times(limit)} is allowed.`
    }
    case NUMERICS_FIGURE:
      return `It cannot be compared: ${note ?? 'it was measured in another precision'}.`
    default:
      return 'There is no held-out text to compare it on.'
  }
}

/** Names the holdouts that a figure is measured on; empty for one that names none. */
function subjectOf(domain: string | null, members: readonly string[] | undefined): string {
  if (domain !== null) return ` on '${domain}'`
  return members ? ` on ${listNames(members.map((name) => `'${name}'`))} together` : ''
}

/** Orders failed figures: first what is broken, then by the ratio to the limit. */
function excessOf({ value, upper, limit }: DecisionFigure): number {
  const reached = upper ?? value
  return reached === null || limit === null ? Number.POSITIVE_INFINITY : reached / limit
}

function times(ratio: number | null): string {
  return ratio === null ? 'infinitely' : `${ratio >= 100 ? ratio.toPrecision(3) : ratio.toFixed(3)} ×`
}
