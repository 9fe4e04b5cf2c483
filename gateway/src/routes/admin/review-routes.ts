import { Hono, type Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { ReviewEntry, SettledReview } from '@copal/shared/wire/admin-review.ts'
import { recordAudit } from '../../audit/record-audit.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { actorId } from '../../keys/actor-id.ts'
import { requireDomain } from './require-domain.ts'

/** Maximum number of texts that are listed. */
const MAX_LISTED = 100

/** Creates the routes that list the texts of a domain that are set aside, and keep or drop them. */
export function reviewRoutes(): Hono<ActorEnv> {
  const path = '/domains/:domain/review'
  return new Hono<ActorEnv>()
    .get(path, async (c) => {
      const { deps } = c.var
      const domain = await requireDomain(deps, c.req.param('domain'))
      const texts = await deps.reservoir(domain).review(MAX_LISTED)
      const data = texts.map(({ id, keyId, tenant, side, nllMean, text }): ReviewEntry => ({
        id,
        key: keyId,
        tenant,
        side,
        nll: nllMean,
        characters: text.length,
        preview: text.slice(0, deps.previewCharacters).toWellFormed(),
      }))
      return c.json({ data })
    })
    .post(`${path}/:id/keep`, (c) => settle(c, 'keep'))
    .post(`${path}/:id/drop`, (c) => settle(c, 'drop'))
}

async function settle(c: Context<ActorEnv>, decision: 'keep' | 'drop'): Promise<Response> {
  const { deps, actor, requestId } = c.var
  const domain = await requireDomain(deps, c.req.param('domain') ?? '')
  const id = c.req.param('id') ?? ''
  if (!(await deps.reservoir(domain).resolveReview(id, decision))) {
    throw new AppError(
      'not_found',
      `No text '${id}' of '${domain}' is set aside. 'GET /admin/domains/${domain}/review' lists them.`,
    )
  }
  await recordAudit(deps, {
    actor: actorId(deps, actor),
    action: `review.${decision}`,
    target: `${domain} ${id}`,
    requestId,
  })
  return c.json({ domain, id, decision } satisfies SettledReview)
}
