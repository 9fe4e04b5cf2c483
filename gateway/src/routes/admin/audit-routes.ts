import { Hono } from 'hono'
import { auditQuery, type AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { appendPendingAudit, auditSeal, checkpointSeal } from '../../audit/audit-chain.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { findAuditCheckpoint, listAuditRows } from '../../storage/db/queries/audit-queries.ts'

/** Creates the route that lists the audit log. */
export function auditRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>().get('/audit', async (c) => {
    const { deps } = c.var
    const { limit, since, ...filter } = validate(auditQuery, c.req.query())
    await appendPendingAudit(deps)
    const sinceMs = since === undefined ? undefined : Date.parse(since)
    const rows = await listAuditRows(deps.db, { ...filter, sinceMs }, limit)
    const checkpoint = await findAuditCheckpoint(deps.db)
    const next = rows.length < limit ? null : (rows.at(-1)?.id ?? null)
    const data = rows.map(async ({ seal, requestId, createdAt, previousHash, hash, ...row }) => ({
      ...row,
      request_id: requestId,
      created_at: createdAt,
      previous_hash: previousHash,
      hash,
      sealed: seal === (await auditSeal(deps.keyPepper, hash)),
    }))
    return c.json({
      data: await Promise.all(data),
      checkpoint: checkpoint
        ? {
            id: checkpoint.id,
            hash: checkpoint.hash,
            sealed:
              checkpoint.seal === (await checkpointSeal(deps.keyPepper, checkpoint.id, checkpoint.hash)),
          }
        : null,
      next_after: filter.order === 'newest' ? null : next,
      ...(filter.order === 'newest' ? { next_before: next } : {}),
    } satisfies AuditPage)
  })
}
