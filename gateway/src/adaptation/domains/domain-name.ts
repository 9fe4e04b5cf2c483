import { AppError } from '@copal/shared/errors.ts'
import { domainName } from '@copal/shared/wire/inference-fields.ts'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'

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

/**
 * Validates the name under which traffic is counted: that of a domain, or {@link OTHER_DOMAINS}.
 *
 * @throws AppError `invalid_request` with `param`
 */
export function parseCountedDomain(name: string, param: string): string {
  return name === OTHER_DOMAINS ? name : parseDomain(name, param)
}
