/**
 * How a mask is tried beside the active one.
 *
 * - `canary`: it answers a share of the API keys
 * - `shadow`: it scores what a share of the requests were answered
 */
export type TrialKind = 'canary' | 'shadow'

/** A mask on trial; 0 is dense. */
export interface Trial {
  version: number
  /** Of keys or requests, above 0 and at most 1. */
  share: number
}

/** A trial as D1 keeps it. */
export interface StoredTrial extends Trial {
  /** The version that was active when it began. */
  beside: number
  sinceMs: number
}

/** The trials of one model. */
export type Trials = Partial<Record<TrialKind, Trial>>
