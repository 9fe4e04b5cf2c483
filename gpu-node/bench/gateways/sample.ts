import { spread, type Spread } from '../measurement/report.ts'

/** Answers of one measurement; times are milliseconds since the request was sent, or waits for a connection. */
export interface Sample {
  /** Whole answers. */
  count: number
  /** Whole answers that came within the time, a second. */
  perSecond: number
  /** Until the first byte of the body, ascending. */
  firstByteMs: readonly number[]
  /** Until the last one, ascending. */
  wholeMs: readonly number[]
  /** Answers that were none: another status, a stream without its end, a lost connection. */
  failed: number
  /** Of the first failure, for people. */
  failure: string | undefined
  /** How late the generator sent what was due, at its slowest hundredth: beside answers it must be small. */
  lateMs: number
}

/** The value below which a share of ascending values lies; NaN of none. */
export function percentile(ascending: readonly number[], share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(share * ascending.length))] ?? Number.NaN
}

/** The order of contenders in a round: each is first as often as any other. */
export function turnOf<T>(contenders: readonly T[], round: number): T[] {
  const from = round % contenders.length
  return [...contenders.slice(from), ...contenders.slice(0, from)]
}

/** How the values of two contenders, measured in the same rounds, relate. */
export function ratios(ours: readonly number[], theirs: readonly number[]): Spread {
  return spread(ours.map((value, round) => value / (theirs[round] ?? Number.NaN)))
}

/** What one contender has more than another, round by round. */
export function differences(ours: readonly number[], theirs: readonly number[]): Spread {
  return spread(ours.map((value, round) => value - (theirs[round] ?? Number.NaN)))
}
