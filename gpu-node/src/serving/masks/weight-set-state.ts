import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'
import { reasonOf } from '../../platform/log.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { HeldWeightSet } from './swap-plan.ts'

/** A weight set of a swap, and how its loads went. */
interface ReportedWeightSet extends HeldWeightSet {
  weights: WeightSet | null
  /** Failed loads in a row. */
  failures: number
  /** The reason of the last failure. */
  cause: unknown
}

/** Returns the state of a set for the heartbeat. */
export function stateOf(set: ReportedWeightSet, requests: number): WeightSetState {
  const { version, state, weights, cause } = set
  return {
    version,
    state,
    requests,
    ...(weights?.bytes === undefined ? {} : { bytes: weights.bytes }),
    ...(weights?.form === undefined ? {} : { form: weights.form }),
    ...(hasFailed(set) ? { error: reasonOf(cause).slice(0, 1024) } : {}),
  }
}

/** Returns whether a set could not be loaded, also while it is tried again, except at once after a first failure. */
function hasFailed({ state, failures }: ReportedWeightSet): boolean {
  return state === 'failed' || (state === 'loading' && failures > 1)
}
