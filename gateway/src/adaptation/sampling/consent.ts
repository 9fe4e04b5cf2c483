import { AppError } from '@copal/shared/errors.ts'
import type { SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'

/**
 * Whether a request's text may be sampled: what its key's policy and its `x-copal-sample` header allow
 * together. A request may only tighten its key's policy, so `false` always wins and `true` opens nothing
 * that the policy keeps shut.
 *
 * @throws AppError `invalid_request` when the header is neither `true` nor `false`.
 */
export function maySample(policy: SamplingPolicy, header: string | undefined): boolean {
  if (header !== undefined && header !== 'true' && header !== 'false') {
    throw new AppError('invalid_request', "Invalid 'x-copal-sample': 'true' or 'false' is expected.", {
      param: 'x-copal-sample',
    })
  }
  if (header === 'false' || policy === 'never') return false
  return policy === 'always' || header === 'true'
}
