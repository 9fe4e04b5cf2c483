import type { SequenceWork, WeightSet } from '../contract/backend.ts'
import type { Draft } from './draft-lookup.ts'
import type { Request } from './engine-request.ts'

/** Tokens `from … to - 1` of one request, of which those after its text are drafts. */
export interface PlannedWork {
  readonly request: Request
  readonly from: number
  readonly to: number
  readonly output: SequenceWork['output']
  /** Pages of the tokens before `from` that the request shares; none unless it is admitted. */
  readonly shared: readonly number[]
  /** Tokens that may follow its first one; the work feeds as many of them as it has further tokens. */
  readonly draft?: Draft
}

/** One planned step of one weight set, not yet reserved. */
export interface PlannedStep {
  readonly weights: WeightSet
  /** Sequences that the backend must drop. */
  readonly drops: readonly number[]
  /** Requests that leave the queue with this step; each has work in it. */
  readonly admissions: readonly Request[]
  readonly work: readonly PlannedWork[]
  /** No request ran or waited when the step was planned. */
  readonly quiet: boolean
}
