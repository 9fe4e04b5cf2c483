import { AppError } from '@copal/shared/errors.ts'
import { parseDomain } from '../../adaptation/domains/domain-name.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { findDomain } from '../../storage/db/queries/domain-queries.ts'

/**
 * Returns the name of a domain of a path.
 *
 * @throws AppError `invalid_request`; `not_found` for a domain that never had a text, so that a mistyped name is noticed
 */
export async function requireDomain({ db }: Pick<Deps, 'db'>, name: string): Promise<string> {
  const domain = parseDomain(name, 'domain')
  if (await findDomain(db, domain)) return domain
  throw new AppError('not_found', `There is no domain '${domain}'. 'GET /admin/domains' lists them.`, {
    param: 'domain',
  })
}
