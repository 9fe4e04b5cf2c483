/** A drift signal of a domain: its loss under dense weights, or what pruning adds to it; nats a token. */
export type DriftSignalName = 'dense' | 'gap'

/** A sum of deviations in one direction, with the observations since it last was zero. */
export interface CumulativeSum {
  /** In deviations of the signal. */
  sum: number
  /** Observations since the sum was zero, and their total, nats a token. */
  count: number
  total: number
}

/** State of a Page-Hinkley test, see `adaptation/drift/detectors/page-hinkley.ts`. */
export interface PageHinkleyState {
  /** Observations since it was started anew. */
  count: number
  /** Their mean and the sum of squared deviations from it. */
  mean: number
  squares: number
  up: CumulativeSum
  down: CumulativeSum
}

/** State of an ADWIN window, see `adaptation/drift/detectors/adwin.ts`. */
export interface AdwinState {
  /** By level: totals and sums of squared deviations of its buckets in turn, oldest first. A bucket of level i has 2^i values. */
  levels: number[][]
  /** Values since the window was last checked. */
  unchecked: number
  /** The largest difference of two parts of the window, relative to what is significant, at the last check. */
  ratio: number
}

/** State of the detectors of one signal of one domain. */
export interface DetectorState {
  pageHinkley: PageHinkleyState
  adwin: AdwinState
  /** Exponentially weighted mean of the signal, nats a token; null before the first observation. */
  recent: number | null
  /**
   * The mean before the first of the changes since the last alarm that were too small to alarm; null if there was none, and
   * absent in states that an earlier version stored.
   */
  beforeSmall?: number | null
  /** When each detector last alarmed, Unix milliseconds. */
  alarms: { pageHinkleyMs: number | null; adwinMs: number | null }
}

/** The statistics above which the detectors alarm: in deviations of the signal, and relative to what is significant. */
export const ALARM_THRESHOLDS = { pageHinkley: 50, adwin: 1 } as const
