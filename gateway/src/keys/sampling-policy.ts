import { samplingPolicy, type SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'

/** Returns the stricter of two policies: what a key may have sampled, and the most that its tenant's keys may. */
export function stricterPolicy(first: SamplingPolicy, second: SamplingPolicy | null): SamplingPolicy {
  if (second === null || isLooser(second, first)) return first
  return second
}

/** Returns whether a policy allows more than another: `never < opt_in < always`. */
export function isLooser(policy: SamplingPolicy, than: SamplingPolicy): boolean {
  return samplingPolicy.options.indexOf(policy) > samplingPolicy.options.indexOf(than)
}
