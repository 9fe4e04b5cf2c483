/** Observers of the parts of a node. Calls are synchronous: an observer must be quick and must not throw. */

/** Observes the weight sets of a node. */
export interface SwapObserver {
  /** A part of a swap has ended; `durationMs` in milliseconds. */
  phase(name: 'fetch' | 'pack' | 'flip' | 'drain', durationMs: number): void
  /** The load of a weight set has ended. */
  loaded(outcome: 'ready' | 'failed' | 'abandoned'): void
  /** New requests start on another mask. */
  swapped(): void
}

/** A job that is observed. */
export interface ObservedJob {
  /** Reports its progress, 0 to 1. */
  progress(fraction: number): void
  /** Reports its end, with the error code of one that failed. */
  ended(outcome: 'done' | 'failed' | 'cancelled', code?: string): void
}

/** Observes the jobs of a node. */
export interface JobObserver {
  /** A job starts. */
  started(job: { id: string; kind: 'calibrate' | 'evaluate'; traceparent?: string | undefined }): ObservedJob
}

/** Observes the grammar compiler. */
export interface GrammarObserver {
  /** A grammar was compiled or could not be; `durationMs` includes its wait. */
  compiled(outcome: 'compiled' | 'failed', durationMs: number): void
}
