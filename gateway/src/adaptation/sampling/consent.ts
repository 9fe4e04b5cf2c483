import { AppError } from '@copal/shared/errors.ts'
import type { SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'

/**
 * Returns whether the text of a request may be sampled, from the policy of its key and its `x-copal-sample` header.
 * A request can only restrict the policy: `false` always wins, and `true` does not override `never`.
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
