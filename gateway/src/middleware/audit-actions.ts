import type { Context, MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { APPEND_CALLS, appendPendingAudit } from '../audit/audit-chain.ts'
import { announceAudit } from '../audit/record-audit.ts'
import { readAuditedState } from '../audit/audited-state.ts'
import { createCallBudget } from '../calls/call-budget.ts'
import { meterDeps } from '../calls/metered-deps.ts'
import type { ActorEnv } from '../contracts/context.ts'
import { actorId } from '../keys/actor-id.ts'
import { displayPart, KEY_PREFIX } from '../keys/key-secret.ts'
import { settlePendingAudit } from '../storage/db/queries/audit-queries.ts'
import { RejectedChanges } from './rejected-changes.ts'

const READING = new Set(['GET', 'HEAD', 'OPTIONS'])
const MAX_TARGET_CHARACTERS = 200
/** The reason in the last row before calls are rejected without one. */
const LAST_REASON = 'It was rejected too often: further calls get a 429 for a while, which is not recorded.'

/**
 * Creates middleware that records every call that may change something, also rejected ones. Mount it behind `requireActor`.
 *
 * The row is written before the action, which fails if the row cannot be written, and completed after it. If the completion is
 * lost, the log says that the outcome is unknown. Bodies are never recorded, since they may contain texts; what a call changed
 * is read from the database before and after it, see {@link readAuditedState}.
 *
 * An actor who repeats an action that is rejected each time gets a 429 before anything is written, see {@link RejectedChanges}.
 */
export function auditActions(): MiddlewareHandler<ActorEnv> {
  const rejections = new RejectedChanges()
  return async (c, next) => {
    if (READING.has(c.req.method)) return next()
    const { deps, actor, requestId } = c.var
    const { pattern, params } = matchedRoute(c)
    const action = `${c.req.method} ${pattern}`
    const by = actorId(deps, actor)
    const { refusalsPerSecond: perSecond } = deps
    rejections.requireRoom(`${by} ${action}`, action, perSecond, deps.nowMs())
    const path = targetOf(params.join('/'))
    // Without an id in the path the query says what a call is about, such as whose samples are deleted.
    const query = targetOf(decoded(new URL(c.req.url).search.slice(1)))
    const before = await readAuditedState(deps, pattern, params)
    const id = await announceAudit(deps, {
      actor: by,
      action,
      target: path === '' ? query : path,
      before,
      requestId,
    })
    await next()
    const { status } = c.res
    const isLast =
      status >= 400 && status < 500 && rejections.count(`${by} ${action}`, perSecond, deps.nowMs())
    const reason = isLast ? LAST_REASON : ''
    // The response is not held back or failed for it: the row exists, and the cron task appends it.
    deps.waitUntil(
      complete(c, id, { pattern, params, path, query, before, reason }).catch((error: unknown) =>
        console.error(`The outcome of request ${requestId} is missing in the audit log:`, error),
      ),
    )
  }
}

async function complete(
  c: Context<ActorEnv>,
  id: number,
  call: { pattern: string; params: string[]; path: string; query: string; before: unknown; reason: string },
): Promise<void> {
  const { pattern, params, path, query, before, reason } = call
  const { deps } = c.var
  const { error, res } = c
  const created = error ? undefined : await createdId(res)
  const rejected = error && { error: error instanceof AppError ? error.code : 'internal_error' }
  const state = error
    ? null
    : await readAuditedState(deps, pattern, params.length > 0 ? params : [created ?? ''])
  await settlePendingAudit(deps.db, id, {
    target: path === '' ? (created ?? query) : path,
    before,
    after: { status: res.status, ...rejected, ...(state === null ? {} : { state }) },
    reason,
  })
  // Once: the request may have used the calls of an event, and the cron task appends what is left.
  await appendPendingAudit(meterDeps(deps, createCallBudget(APPEND_CALLS)))
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

/** Returns a path or a query as a target, and shortens an API key that somebody put into it. */
function targetOf(text: string): string {
  const at = text.indexOf(KEY_PREFIX)
  return (at < 0 ? text : text.slice(0, at) + displayPart(text.slice(at))).slice(0, MAX_TARGET_CHARACTERS)
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
