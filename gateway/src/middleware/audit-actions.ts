import type { Context, MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { APPEND_CALLS, appendPendingAudit } from '../audit/audit-chain.ts'
import { announceAudit, recordAudit } from '../audit/record-audit.ts'
import { readAuditedState } from '../audit/audited-state.ts'
import { createCallBudget } from '../calls/call-budget.ts'
import { meterDeps } from '../calls/metered-deps.ts'
import type { ActorEnv } from '../contracts/context.ts'
import { actorId } from '../keys/actor-id.ts'
import { displayPart, KEY_PREFIX } from '../keys/key-secret.ts'
import { settlePendingAudit } from '../storage/db/queries/audit-queries.ts'
import { COUNTED_MS, RejectedChanges, type CountedRejections } from './rejected-changes.ts'

const READING = new Set(['GET', 'HEAD', 'OPTIONS'])
const MAX_TARGET_CHARACTERS = 200

/** The fields that a row gets when its action is done. */
type Result = Parameters<typeof settlePendingAudit>[2]
/** A row that was written before its action, and what it gets after it. */
interface AnnouncedRow {
  id: number
  result: Result
}

/** A call, and what was known before it was done. */
interface AuditedCall {
  pattern: string
  params: string[]
  path: string
  query: string
  before: unknown
}

/**
 * Creates middleware that records every call that may change something, also rejected ones. Mount it behind `requireActor`.
 *
 * The row is written before the action, which fails if the row cannot be written, and completed after it. If the completion is
 * lost, the log says that the outcome is unknown. Bodies are never recorded, since they may contain texts; what a call changed
 * is read from the database before and after it, see {@link readAuditedState}.
 *
 * If an actor repeats an action that is rejected each time, the row of one call stays open for a while and gets the number of those after
 * it, see {@link RejectedChanges}. It stands for them, so they write nothing; one that is not rejected gets its row after it was done.
 */
export function auditActions(): MiddlewareHandler<ActorEnv> {
  const rejections = new RejectedChanges<AnnouncedRow>()
  return async (c, next) => {
    if (READING.has(c.req.method)) return next()
    const { deps, actor, requestId } = c.var
    const { pattern, params } = matchedRoute(c)
    const action = `${c.req.method} ${pattern}`
    const by = actorId(deps, actor)
    const key = `${by} ${action}`
    const path = targetOf(params.join('/'))
    // Without an id in the path the query says what a call is about, such as whose samples are deleted.
    const query = targetOf(decoded(new URL(c.req.url).search.slice(1)))
    const before = await readAuditedState(deps, pattern, params)
    const call = { pattern, params, path, query, before }
    const entry = { actor: by, action, target: path === '' ? query : path, before, requestId }
    const counted = rejections.counted(key, deps.nowMs())
    counted?.begin()
    const id = counted ? undefined : await announceAudit(deps, entry)
    await next()
    const { status } = c.res
    const isRejected = status >= 400 && status < 500
    const isLast = id !== undefined && isRejected ? rejections.note(key, deps.nowMs()) : undefined
    const record = async (): Promise<void> => {
      if (id !== undefined) return settle(c, { id, result: await resultOf(c, call) }, isLast)
      if (!isRejected) await recordAudit(deps, { ...entry, ...(await resultOf(c, call)) })
      const row = counted?.end(isRejected)
      if (counted && row) await close(c, row, counted)
    }
    // The response is not held back or failed for it: the row exists, and the cron task appends it.
    deps.waitUntil(
      record().catch((error: unknown) =>
        console.error(`The outcome of request ${requestId} is missing in the audit log:`, error),
      ),
    )
  }
}

/** Completes a row, after those that it counts. */
async function settle(
  c: Context<ActorEnv>,
  row: AnnouncedRow,
  counted: CountedRejections<AnnouncedRow> | undefined,
): Promise<void> {
  if (!counted) return close(c, row)
  counted.row = row
  await new Promise((resolve) => setTimeout(resolve, COUNTED_MS))
  const closed = counted.endCounting()
  if (closed) await close(c, closed, counted)
}

async function close(
  c: Context<ActorEnv>,
  { id, result }: AnnouncedRow,
  { rejected }: { rejected: number } = { rejected: 0 },
): Promise<void> {
  const { deps } = c.var
  const reason = rejected === 0 ? '' : moreRejected(rejected)
  await settlePendingAudit(deps.db, id, { ...result, reason })
  // Once: the request may have used the calls of an event, and the cron task appends what is left.
  await appendPendingAudit(meterDeps(deps, createCallBudget(APPEND_CALLS)))
}

function moreRejected(calls: number): string {
  const were =
    calls === 1
      ? '1 more call of this action by this actor was'
      : `${calls} more calls of this action by this actor were`
  return `${were} rejected within ${COUNTED_MS / 1000} s, and have no rows of their own.`
}

async function resultOf(
  c: Context<ActorEnv>,
  { pattern, params, path, query, before }: AuditedCall,
): Promise<Result> {
  const { deps } = c.var
  const { error, res } = c
  const created = error ? undefined : await createdId(res)
  const rejected = error && { error: error instanceof AppError ? error.code : 'internal_error' }
  const state = error
    ? null
    : await readAuditedState(deps, pattern, params.length > 0 ? params : [created ?? ''])
  return {
    target: path === '' ? (created ?? query) : path,
    before,
    after: { status: res.status, ...rejected, ...(state === null ? {} : { state }) },
    reason: '',
  }
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
