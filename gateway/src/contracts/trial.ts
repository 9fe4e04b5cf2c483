/**
 * The kinds of trial of a mask beside the active one.
 *
 * - `canary`: it serves a share of the conversations
 * - `shadow`: it scores the output of a share of the requests
 */
export type TrialKind = 'canary' | 'shadow'

/** A mask under test; version 0 is dense. */
export interface Trial {
  version: number
  /** The share of conversations or requests, above 0 and at most 1. */
  share: number
}

/** A trial as stored in D1. */
export interface StoredTrial extends Trial {
  /** The version that was active when it began. */
  beside: number
  sinceMs: number
}

/** The trials of one model. */
export type Trials = Partial<Record<TrialKind, Trial>>

/** A mask that is watched after its promotion, as stored in D1. It ends when another mask becomes active. */
export interface StoredWatch {
  version: number
  /** The mask that was active before, to which the watch returns; 0 is dense. */
  beside: number
  updateId: string
  sinceMs: number
  untilMs: number
}
