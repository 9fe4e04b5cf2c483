import { spread } from '../runtime/spread-hash.ts'

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

/**
 * The trials that are in force. Each compares with the mask that was active when it began, so it is over when another
 * becomes active: promoted, rolled back to, or the tried one itself.
 */
export function trialsInForce(model: {
  activeVersion: number
  canary: StoredTrial | null
  shadow: StoredTrial | null
}): Partial<Record<TrialKind, StoredTrial>> {
  const inForce = (trial: StoredTrial | null) => trial?.beside === model.activeVersion
  return {
    ...(model.canary && inForce(model.canary) ? { canary: model.canary } : {}),
    ...(model.shadow && inForce(model.shadow) ? { shadow: model.shadow } : {}),
  }
}

/**
 * Whether a key or a request is in the share of a trial: by its id alone, so that every isolate decides alike. A larger
 * share only adds to those that are in; another mask chooses others.
 */
export function isChosen(kind: TrialKind, { version, share }: Trial, model: string, id: string): boolean {
  return spread(`${kind}\n${model}\n${version}\n${id}`) < share * 2 ** 32
}
