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

/** The evidence of a trial or a watch when it was last judged; gaps are over all traffic, in nats a token. */
export interface TrialEvidence {
  requests: number
  tokens: number
  /** Null while nothing is scored. */
  gap: number | null
  lower: number | null
  upper: number | null
}

/** Notes of the checks of a trial or a watch that an update runs. They are not part of the desired state. */
export interface TrialNotes {
  checkedAtMs?: number
  /** Since when a live node holds the mask; left out while none does. */
  servedSinceMs?: number | undefined
  /** For how long live nodes held the mask before, milliseconds. */
  servedMs?: number
  /** Since when no live node can load the mask; left out while one can, or while no node is alive. */
  unableSinceMs?: number | undefined
  evidence?: TrialEvidence
}

/** A trial as stored in D1. */
export interface StoredTrial extends Trial, TrialNotes {
  /** The version that was active when it began. */
  beside: number
  sinceMs: number
  /** The update that runs it; left out of an operator's trial. */
  updateId?: string
}

/** The trials of one model, and what else is served beside its active mask. */
export interface Trials extends Partial<Record<TrialKind, Trial>> {
  /** Versions of the masks that serve single domains instead of the active one, by domain. */
  own?: Readonly<Record<string, number>>
  /** The version that the active one replaces while it is rolled out: nodes whose turn has not come serve it. */
  replaced?: number
}

/** A mask that is watched after its promotion, as stored in D1. It ends when another mask becomes active. */
export interface StoredWatch extends TrialNotes {
  version: number
  /** The mask that was active before, to which the watch returns; 0 is dense. */
  beside: number
  updateId: string
  sinceMs: number
  untilMs: number
}
