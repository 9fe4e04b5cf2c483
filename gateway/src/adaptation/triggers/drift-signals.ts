import type { AlertKind } from '@copal/shared/wire/admin-alerts.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'

/** Losses of a domain's traffic that was scored under the active mask and the dense model: sums of nats over `tokens` tokens. */
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
export interface DriftInput {
  domain: string
  policy: AdaptationPolicy['triggers']
  /** The scores under the active mask alone: what was scored before it became active says nothing about it. */
  scored: ScoredTraffic | undefined
  /** Alerts of the domain that hold. */
  alerts: readonly HeldAlert[]
}

/** A reason to update a domain because its traffic changed, or is served worse than it should be. */
export interface DriftSignal {
  /** The finding, for people: `its scored gap is 0.62 nats a token, above 0.5`. */
  reason: string
}

/** Finds drift of a domain. A pure function of what was measured, so that a plan can be explained. */
export type DriftDetector = (input: DriftInput) => DriftSignal | undefined

/** Minimum of scored tokens for a gap: the mean over fewer says little. */
const MIN_SCORED_TOKENS = 2_048

/** Returns the mean loss above the dense model, nats a token; undefined where too little was scored. */
export function scoredGap(scored: ScoredTraffic | undefined): number | undefined {
  if (!scored || scored.tokens < MIN_SCORED_TOKENS) return undefined
  return (scored.nllMasked - scored.nllDense) / scored.tokens
}

const gapDetector: DriftDetector = ({ policy: { max_gap: maxGap }, scored }) => {
  const gap = scoredGap(scored)
  if (maxGap === null || gap === undefined || gap <= maxGap) return undefined
  return { reason: `its scored gap is ${gap.toFixed(3)} nats a token, above ${maxGap}` }
}

/** The alerts are those of Page-Hinkley and ADWIN, which a task of the cron trigger advances. */
const alertDetector: DriftDetector = ({ policy: { drift }, alerts }) => {
  if (drift === 'off') return undefined
  const change = ({ reference, level }: HeldAlert) =>
    `${level.toFixed(2)} nats a token, and was ${reference.toFixed(2)}`
  const gap = alerts.find(({ kind }) => kind === 'gap_drift')
  if (gap) return { reason: `what pruning costs it rose: it is ${change(gap)}` }
  const input = drift === 'any' ? alerts.find(({ kind }) => kind === 'input_drift') : undefined
  return input && { reason: `its traffic changed: its dense loss is ${change(input)}` }
}

/** The detectors; the first one that finds something makes a domain due. */
const DETECTORS: readonly DriftDetector[] = [gapDetector, alertDetector]

/** Returns the first signal of the detectors. */
export function findDrift(
  input: DriftInput,
  detectors: readonly DriftDetector[] = DETECTORS,
): DriftSignal | undefined {
  for (const detect of detectors) {
    const signal = detect(input)
    if (signal) return signal
  }
  return undefined
}
