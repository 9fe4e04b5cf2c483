import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { GenerationCheck } from '@copal/shared/wire/adaptation-jobs.ts'

/** Losses of one mask on one holdout version, nats a token; null where they are not finite. */
export interface HoldoutLosses {
  nllMean: number | null
  /** The mean loss of each window, in order; null as a whole for evaluations that are older than window losses. */
  windowNll: readonly (number | null)[] | null
}

/** The losses of the masks on one holdout version. */
export interface GateHoldout {
  domain: string
  sha256: string
  /** Scored tokens of each window. */
  windowTokens: readonly number[]
  /** Whether this update is the first to calibrate the domain, which the active mask does not know; then it has no constraint. */
  isNew: boolean
  /** Share of the traffic, relative to the other holdouts. */
  weight: number
  candidate: HoldoutLosses
  /** The active mask; absent where its loss is not finite, and for the first mask of a model. */
  parent?: HoldoutLosses
  /** The promoted mask that is best on this version; absent if none was evaluated. */
  best?: HoldoutLosses & { version: number }
  /** Needed of each holdout without a parent, and of the general one. */
  dense?: HoldoutLosses
}

/** A mask that cannot be compared with the candidate, because it was measured on a holdout with other numerics alone. */
export interface OtherNumerics {
  /** The numerics of the candidate's evaluation; null where its node does not name them. */
  candidate: string | null
  /** Version 0 is dense. */
  version: number
  domain: string
  numerics: string | null
}

/** The input of the gate. */
export interface GateInput {
  policy: AdaptationPolicy['gate']
  holdouts: readonly GateHoldout[]
  generation: { candidate: GenerationCheck; dense: GenerationCheck }
  /** The number of the candidate, from 1, among all that were compared with the active mask. */
  candidate: number
  /** Absent if all losses can be compared. */
  otherNumerics?: OtherNumerics
}
