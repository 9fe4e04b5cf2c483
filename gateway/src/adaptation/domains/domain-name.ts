import { AppError } from '@copal/shared/errors.ts'
import { domainName } from '@copal/shared/wire/inference-fields.ts'

/**
 * Validates the name of a domain.
 *
 * @throws AppError `invalid_request` with `param`
 */
export function parseDomain(name: string, param: string): string {
  const result = domainName.safeParse(name)
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw new AppError(
    'invalid_request',
    `Invalid '${param}': ${issue?.message ?? 'a domain name is expected'}.`,
    { param },
  )
}
