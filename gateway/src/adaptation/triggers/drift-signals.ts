import type { AlertKind } from '@copal/shared/wire/admin-alerts.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'

/** Losses of a domain's traffic that was scored under a mask and the dense model: sums of nats over `tokens` tokens. */
export interface ScoredTraffic {
  tokens: number
  nllMasked: number
  nllDense: number
}

/** An alert of a domain that holds: means of the signal before and after the change, nats a token. */
export interface HeldAlert {
  kind: AlertKind
  reference: number
  level: number
}

/** The facts about a domain that its drift is judged by. */
export interface DriftFacts {
  /** The scores under the mask that serves the domain alone: what was scored under others says nothing about it. */
  scored: ScoredTraffic | undefined
  /** Drift alerts that hold: those of Page-Hinkley and ADWIN, which a task of the cron trigger advances. */
  alerts: readonly HeldAlert[]
}

/** Minimum of scored tokens for a gap: the mean over fewer says little. */
const MIN_SCORED_TOKENS = 2_048

/** Returns the mean loss above the dense model, nats a token; undefined where too little was scored. */
export function scoredGap(scored: ScoredTraffic | undefined): number | undefined {
  if (!scored || scored.tokens < MIN_SCORED_TOKENS) return undefined
  return (scored.nllMasked - scored.nllDense) / scored.tokens
}

/**
 * Returns why a domain is to be updated because its traffic changed, or is served worse than it should be, for people: `its scored gap
 * is 0.62 nats a token, above 0.5`. Undefined if it is not.
 */
export function findDrift(
  { scored, alerts }: DriftFacts,
  { max_gap: maxGap, drift }: AdaptationPolicy['triggers'],
): string | undefined {
  const gap = scoredGap(scored)
  if (maxGap !== null && gap !== undefined && gap > maxGap)
    return `its scored gap is ${gap.toFixed(3)} nats a token, above ${maxGap}`
  const alertOf = (kind: AlertKind) => alerts.find((alert) => alert.kind === kind)
  const change = ({ reference, level }: HeldAlert) =>
    `${level.toFixed(2)} nats a token, and was ${reference.toFixed(2)}`
  const costs = drift === 'off' ? undefined : alertOf('gap_drift')
  if (costs) return `what pruning costs it rose: it is ${change(costs)}`
  const traffic = drift === 'any' ? alertOf('input_drift') : undefined
  return traffic && `its traffic changed: its dense loss is ${change(traffic)}`
}
