import type { Context, MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { appendPendingAudit } from '../audit/audit-chain.ts'
import { announceAudit } from '../audit/record-audit.ts'
import { readAuditedState } from '../audit/audited-state.ts'
import type { ActorEnv } from '../contracts/context.ts'
import { actorId } from '../keys/actor-id.ts'
import { displayPart, KEY_PREFIX } from '../keys/key-secret.ts'
import { settlePendingAudit } from '../storage/db/queries/audit-queries.ts'

const READING = new Set(['GET', 'HEAD', 'OPTIONS'])
const MAX_TARGET_CHARACTERS = 200

/**
 * Creates middleware that records every call that may change something, also rejected ones. Mount it behind `requireActor`.
 *
 * The row is written before the action, which fails if the row cannot be written, and completed after it. If the completion is
 * lost, the log says that the outcome is unknown. Bodies are never recorded, since they may contain texts; what a call changed
 * is read from the database before and after it, see {@link readAuditedState}.
 */
export function auditActions(): MiddlewareHandler<ActorEnv> {
  return async (c, next) => {
    if (READING.has(c.req.method)) return next()
    const { deps, actor, requestId } = c.var
    const { pattern, params } = matchedRoute(c)
    const path = params.map(withoutSecret).join('/').slice(0, MAX_TARGET_CHARACTERS)
    const before = await readAuditedState(deps, pattern, params)
    const id = await announceAudit(deps, {
      actor: actorId(deps, actor),
      action: `${c.req.method} ${pattern}`,
      target: path,
      before,
      requestId,
    })
    await next()
    // The response is not held back or failed for it: the row exists, and the cron task appends it.
    deps.waitUntil(
      complete(c, id, { pattern, params, path, before }).catch((error: unknown) =>
        console.error(`The outcome of request ${requestId} is missing in the audit log:`, error),
      ),
    )
  }
}

async function complete(
  c: Context<ActorEnv>,
  id: number,
  { pattern, params, path, before }: { pattern: string; params: string[]; path: string; before: unknown },
): Promise<void> {
  const { deps } = c.var
  const { error, res } = c
  const created = error ? undefined : await createdId(res)
  const rejected = error && { error: error instanceof AppError ? error.code : 'internal_error' }
  const state = error
    ? null
    : await readAuditedState(deps, pattern, params.length > 0 ? params : [created ?? ''])
  await settlePendingAudit(deps.db, id, {
    target: path === '' ? (created ?? '') : path,
    before,
    after: { status: res.status, ...rejected, ...(state === null ? {} : { state }) },
    reason: '',
  })
  await appendPendingAudit(deps)
}

/** Returns the pattern of the route that handles a request, and the values of its parameters. */
function matchedRoute(c: Context<ActorEnv>): { pattern: string; params: string[] } {
  const path = c.req.path.split('/')
  const route = c.req.matchedRoutes.findLast(({ path: pattern }) => !pattern.includes('*'))
  if (!route) return { pattern: '/admin/*', params: [path.slice(2).join('/')] }
  const names = route.path.split('/')
  const params = path.flatMap((part, index) =>
    names[index]?.startsWith(':') === true ? [decoded(part)] : [],
  )
  return { pattern: route.path, params }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/** Shortens an API key that somebody put into the path. */
function withoutSecret(part: string): string {
  return part.includes(KEY_PREFIX) ? displayPart(part.slice(part.indexOf(KEY_PREFIX))) : part
}

/** Returns the `id` of a JSON response. */
async function createdId(response: Response): Promise<string | undefined> {
  if (!/^application\/json\b/.test(response.headers.get('content-type') ?? '')) return undefined
  const body: unknown = await response
    .clone()
    .json()
    .catch(() => undefined)
  return typeof body === 'object' && body !== null && 'id' in body && typeof body.id === 'string'
    ? body.id
    : undefined
}
