import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { DEFAULT_DOMAIN } from '@copal/shared/wire/admin-keys.ts'
import { setDomain, type ChangedDomain } from '@copal/shared/wire/admin-domains.ts'
import { rebuildDomain } from '../../adaptation/domains/rebuild-domain.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { setDomainOwner } from '../../storage/db/queries/domain-queries.ts'
import { hasTenant } from '../../storage/db/queries/tenant-queries.ts'
import { readAdminBody } from './admin-body.ts'
import { requireDomain } from './require-domain.ts'

/** Creates the routes that set the owner of a domain, and have its statistics made anew. */
export function domainChangeRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .put('/domains/:domain', async (c) => {
      const { db } = c.var.deps
      const domain = await requireDomain({ db }, c.req.param('domain'))
      const { owner } = await readAdminBody(c, setDomain)
      if (owner !== null && domain === DEFAULT_DOMAIN)
        throw new AppError(
          'invalid_request',
          `The domain '${DEFAULT_DOMAIN}' cannot belong to one tenant: requests of every tenant that name no other are counted there.`,
          { param: 'owner' },
        )
      if (owner !== null && !(await hasTenant(db, owner)))
        throw new AppError(
          'not_found',
          `There is no tenant '${owner}'. 'GET /admin/tenants' lists the tenants.`,
          { param: 'owner' },
        )
      await setDomainOwner(db, domain, owner)
      return c.json({ domain, owner } satisfies ChangedDomain)
    })
    .post('/domains/:domain/rebuild', async (c) => {
      const domain = await requireDomain(c.var.deps, c.req.param('domain'))
      return c.json(await rebuildDomain(c.var.deps, domain))
    })
}
