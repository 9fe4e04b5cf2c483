import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { seriesQuery, type SeriesMark } from '@copal/shared/wire/admin-series.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import type { Actor } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { findDomain } from '../../storage/db/queries/domain-queries.ts'
import { seriesReport } from '../../usage/series/series-report.ts'

/** Creates the route of the series over time of traffic and drift: of a tenant's key only those of a domain that it owns. */
export function seriesRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>().get('/series', async (c) => {
    const { deps, actor } = c.var
    const { model, ...query } = validate(seriesQuery, c.req.query())
    await requireVisible(deps, actor, query.domain)
    const { id } = await findOperatorModel(deps.db, model)
    const report = await seriesReport(deps, id, query)
    const marks = actor.kind === 'tenant' ? report.marks.flatMap(tenantMark) : report.marks
    return c.json({ ...report, marks })
  })
}

/** @throws AppError `insufficient_permissions` for a domain of another tenant, whether it exists or not */
async function requireVisible(
  { db }: Pick<Deps, 'db'>,
  actor: Actor,
  domain: string | undefined,
): Promise<void> {
  if (actor.kind !== 'tenant') return
  const { tenant } = actor.key
  if (domain !== undefined && (await findDomain(db, domain))?.owner === tenant) return
  throw new AppError(
    'insufficient_permissions',
    `This key sees the series of domains that the tenant '${tenant}' owns. Set 'domain' to one of 'GET /admin/domains'.`,
    { param: 'domain' },
  )
}

/** Returns a mark as a tenant may see it: reasons of decisions about a shared mask name domains of others. */
function tenantMark(mark: SeriesMark): SeriesMark[] {
  if (mark.domain !== null) return [mark]
  const mask = mark.mask_version === null ? 'A mask' : `m${mark.mask_version}`
  if (mark.kind === 'promoted') return [{ ...mark, update: null, text: `${mask} became active.` }]
  if (mark.kind === 'rolled_back') return [{ ...mark, update: null, text: `${mask} was rolled back.` }]
  return []
}
