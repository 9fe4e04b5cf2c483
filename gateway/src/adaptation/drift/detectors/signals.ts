import type { DriftSignalName } from '../../../contracts/detector-state.ts'

/** How the detectors read a signal. */
export interface SignalRules {
  /** Least and largest value, nats a token: the loss of a request beyond it counts as the bound. */
  bounds: readonly [number, number]
  /** Changes of the mean below this, nats a token, are not worth an alarm, however certain they are. */
  minChange: number
  /** The deviation that is assumed at least, nats a token, so that a signal without noise has a scale. */
  minDeviation: number
  /** Whether a fall of the mean alarms like a rise. */
  twoSided: boolean
}

/**
 * The signals, both means over the scored tokens of one request.
 *
 * `dense`, the loss under dense weights: texts of people lie between 1 and 6 nats a token, and a uniform guess over 3,000
 * tokens costs 8. `gap`, the loss under the mask minus that: a mask that passed the gate costs less than 0.5 on most texts, and
 * a single short text can be 0.5 better by chance. A gap that falls is no reason to act. The changes are 10 % and 5 % of the
 * perplexity; the gate allows a mask 5 %.
 */
export const SIGNALS: Readonly<Record<DriftSignalName, SignalRules>> = {
  dense: { bounds: [0, 8], minChange: 0.1, minDeviation: 0.05, twoSided: true },
  gap: { bounds: [-1, 3], minChange: 0.05, minDeviation: 0.02, twoSided: false },
}

/** Minimum scored tokens of a request that the detectors read. */
export const MIN_TOKENS = 8

/**
 * Maximum observations of a domain and mask a minute. Where more requests were scored, each observation is the mean over some
 * of them, which has no more noise than the single requests that the thresholds were calibrated for. It bounds the work, and
 * the number of observations in a month (345,600), and so of false alarms.
 */
export const OBSERVATIONS_PER_MINUTE = 8
