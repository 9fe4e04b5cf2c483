import { Hono, type Context } from 'hono'
import { z } from 'zod'
import { AppError } from '@copal/shared/errors.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import {
  accountChanges,
  tenantName,
  tenantsQuery,
  type CacheEntry,
  type TenantEntry,
} from '@copal/shared/wire/admin-keys.ts'
import type { Page } from '@copal/shared/wire/paging.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import {
  changeTenant,
  ensureTenant,
  findTenant,
  hasTenant,
  listTenants,
  type CountedTenant,
} from '../../storage/db/queries/tenant-queries.ts'
import { tenantOf } from '../../keys/key-grants.ts'
import { limitsEntry, limitsPatch } from '../../usage/limits/key-limits.ts'
import { requireOperator } from '../../middleware/auth.ts'
import { readAdminBody } from './admin-body.ts'
import { sampleRoutes } from './sample-routes.ts'

type TenantPage = Page<TenantEntry>

const tenantPath = z.object({ tenant: tenantName })

/** Creates the routes of tenants, their response caches and the deletion of their samples: all tenants for the operator, its own for an administrator. */
export function tenantRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/tenants', async (c) => {
      const { deps, actor } = c.var
      const { limit, after } = validate(tenantsQuery, c.req.query())
      const own = tenantOf(actor, undefined)
      if (own !== undefined) {
        const tenant = await findTenant(deps.db, own)
        return c.json({ data: tenant ? [tenantEntry(tenant)] : [], next_after: null } satisfies TenantPage)
      }
      const tenants = await listTenants(deps.db, { after, limit })
      const next_after = tenants.length < limit ? null : (tenants.at(-1)?.name ?? null)
      return c.json({ data: tenants.map(tenantEntry), next_after } satisfies TenantPage)
    })
    .put('/tenants/:tenant', requireOperator(), async (c) => {
      const { deps } = c.var
      const name = validate(tenantPath, c.req.param()).tenant
      const changes = await readAdminBody(c, accountChanges)
      await ensureTenant(deps.db, name, deps.nowMs())
      await changeTenant(deps.db, name, { limits: limitsPatch(changes.limits), sampling: changes.sampling })
      const tenant = await findTenant(deps.db, name)
      return c.json(tenant && tenantEntry(tenant))
    })
    .get('/tenants/:tenant/cache', async (c) => {
      const tenant = await requireTenantOfPath(c)
      const stats = await c.var.deps.responseCache(tenant).stats()
      return c.json({ tenant, ...stats } satisfies CacheEntry)
    })
    .delete('/tenants/:tenant/cache', async (c) => {
      const tenant = await requireTenantOfPath(c)
      return c.json({ tenant, deleted: await c.var.deps.responseCache(tenant).clear() })
    })
    .route('/', sampleRoutes())
}

/** @throws AppError `invalid_request` for an invalid name, `insufficient_permissions` for another tenant, `not_found` */
async function requireTenantOfPath(c: Context<ActorEnv>): Promise<string> {
  const name = tenantOf(c.var.actor, validate(tenantPath, c.req.param()).tenant) ?? ''
  if (await hasTenant(c.var.deps.db, name)) return name
  throw new AppError('not_found', `There is no tenant '${name}'. 'GET /admin/tenants' lists the tenants.`)
}

function tenantEntry({ name, keys, limits, sampling, createdAt }: CountedTenant): TenantEntry {
  return {
    name,
    keys,
    limits: limitsEntry(limits),
    sampling,
    created_at: new Date(createdAt).toISOString(),
  }
}
