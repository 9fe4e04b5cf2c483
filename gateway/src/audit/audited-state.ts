import type { Deps } from '../contracts/bindings.ts'
import { findDomain } from '../storage/db/queries/domain-queries.ts'
import { findKey } from '../storage/db/queries/key-queries.ts'
import { listPolicyOverrides } from '../storage/db/queries/policy-queries.ts'
import { findTenant } from '../storage/db/queries/tenant-queries.ts'

type Reader = (deps: Pick<Deps, 'db'>, params: readonly string[]) => Promise<unknown>

const key: Reader = async ({ db }, [id = '']) => {
  const row = await findKey(db, id, undefined)
  if (!row) return null
  const { hash: _hash, previousHash: _previousHash, ...shown } = row
  return shown
}

const tenant: Reader = async ({ db }, [name = '']) => {
  const row = await findTenant(db, name)
  return row ?? null
}

const domain: Reader = async ({ db }, [name = '']) => (await findDomain(db, name)) ?? null

/** Reads the policies of all models, because the body names the model. */
const policy: Reader = async ({ db }) => listPolicyOverrides(db)

/** Readers of the state that a route changes, for the rows of the audit log, by the pattern of the route. */
const READERS: Readonly<Record<string, Reader>> = {
  '/admin/domains/:domain': domain,
  '/admin/keys': key,
  '/admin/policy': policy,
  '/admin/keys/:id': key,
  '/admin/keys/:id/rotate': key,
  '/admin/tenants/:tenant': tenant,
}

/** Returns the state of what a route changes, without secrets and texts; null where there is none to show. */
export async function readAuditedState(
  deps: Pick<Deps, 'db'>,
  pattern: string,
  params: readonly string[],
): Promise<unknown> {
  return (await READERS[pattern]?.(deps, params)) ?? null
}
