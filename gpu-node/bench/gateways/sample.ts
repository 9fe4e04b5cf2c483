import { spread, type Spread } from '@copal/gpu-node/platform/spread.ts'

/** The responses of one measurement; times are milliseconds since the request was sent, or waited for a connection. */
export interface Sample {
  /** Complete responses. */
  count: number
  /** Complete responses per second of the measurement. */
  perSecond: number
  /** Times until the first byte of the body, ascending. */
  firstByteMs: readonly number[]
  /** Times until the last byte, ascending. */
  wholeMs: readonly number[]
  /** Failed requests: another status, a stream without its end, or a lost connection. */
  failed: number
  /** Description of the first failure. */
  failure: string | undefined
  /**
   * How late the generator sent due requests, at the 99th percentile. It must be small compared to the response times.
   */
  lateMs: number
}

/** Returns the order of contenders in a round; each is first equally often. */
export function turnOf<T>(contenders: readonly T[], round: number): T[] {
  const from = round % contenders.length
  return [...contenders.slice(from), ...contenders.slice(0, from)]
}

/** Returns the spread of the ratios of two contenders, round by round. */
export function ratios(ours: readonly number[], theirs: readonly number[]): Spread {
  return spread(ours.map((value, round) => value / (theirs[round] ?? Number.NaN)))
}

/** Returns the spread of the differences of two contenders, round by round. */
export function differences(ours: readonly number[], theirs: readonly number[]): Spread {
  return spread(ours.map((value, round) => value - (theirs[round] ?? Number.NaN)))
}
