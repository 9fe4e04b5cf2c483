import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { auditHash, FIRST_PREVIOUS_HASH } from '@copal/shared/wire/audit-hash.ts'
import { createApp } from '../../../gateway/src/app.ts'
import { appendPendingAudit, deleteOldAudit } from '../../../gateway/src/audit/audit-chain.ts'
import { announceAudit, recordAudit } from '../../../gateway/src/audit/record-audit.ts'
import { createCallBudget } from '../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../gateway/src/calls/metered-deps.ts'
import { COUNTED_MS, CountedRejections } from '../../../gateway/src/middleware/rejected-changes.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { insertDecision } from '../../../gateway/src/storage/db/queries/decision-queries.ts'
import { admin, adminJson, testDeps } from '../support/doubles/simulated-node.ts'
import { createKey, errorOf, ORIGIN, sendHeartbeat, until } from '../support/requests/gateway-requests.ts'
import { TEST_ADMIN_KEY } from '../support/setup/secrets.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/** Rejected calls of an action that have a row each at once. */
const ROWS = 60
const db = openDatabase(env.DB)
const list = (query = '') => adminJson<AuditPage>('GET', `/audit?limit=500${query}`)
const entry = (target: string) => ({ actor: 'copal', action: 'test', target })

/** Returns a function that sends a request to an isolate of its own, and waits for what the request does after its response. */
function sender(key: string) {
  const app = createApp()
  return async (method: string, path: string): Promise<Response> => {
    const ctx = createExecutionContext()
    const headers = { authorization: `Bearer ${key}` }
    const response = await app.fetch(new Request(`${ORIGIN}/admin${path}`, { method, headers }), env, ctx)
    await waitOnExecutionContext(ctx)
    return response
  }
}

function firstOf<T>([row]: readonly T[]): T {
  if (row === undefined) throw new Error('there is no row')
  return row
}

/** Returns the numbers of rows that do not follow from the row before. */
async function brokenRows({ data, checkpoint }: AuditPage): Promise<number[]> {
  let previous = checkpoint?.hash ?? FIRST_PREVIOUS_HASH
  let id = checkpoint?.id ?? 0
  const broken: number[] = []
  for (const row of data) {
    id += 1
    const sound = row.id === id && row.previous_hash === previous && row.hash === (await auditHash(row))
    if (!sound || !row.sealed) broken.push(row.id)
    previous = row.hash
  }
  return broken
}

test('rows of isolates that append at the same time are chained once each, without gaps', async () => {
  const targets = Array.from({ length: 24 }, (_, index) => `row-${index}`)
  await Promise.all(
    targets.map(async (target) => {
      await recordAudit(testDeps(), entry(target))
      await appendPendingAudit(testDeps())
    }),
  )
  const page = await list()
  expect(
    page.data
      .map(({ target }) => target)
      .filter((target) => target.startsWith('row-'))
      .toSorted(),
  ).toEqual(targets.toSorted())
  expect(await brokenRows(page)).toEqual([])
})

test('rows that wait are appended by few statements: 25 by four, and one that deletes what they were made of', async () => {
  for (let row = 0; row < 25; row += 1) await recordAudit(testDeps(), entry(`waited-${row}`))
  const calls = createCallBudget()
  const before = calls.left
  await appendPendingAudit(meterDeps(testDeps(), calls))
  // Before, it reads the last row and those that wait.
  expect(before - calls.left).toBe(2 + 5)
  const page = await list()
  expect(page.data.filter(({ target }) => target.startsWith('waited-'))).toHaveLength(25)
  expect(await brokenRows(page)).toEqual([])
})

test('the database refuses to change or delete rows, and shows rows that were written without the pepper', async () => {
  await recordAudit(testDeps(), entry('kept'))
  const { data } = await list('&target=kept')
  const id = firstOf(data).id
  await expect(env.DB.prepare('UPDATE audit SET actor = ? WHERE id = ?').bind('x', id).run()).rejects.toThrow(
    /never changed/,
  )
  await expect(env.DB.prepare('DELETE FROM audit WHERE id = ?').bind(id).run()).rejects.toThrow(
    /behind a checkpoint/,
  )
  // Whoever drops the triggers can compute the hashes of another history, but not its seals.
  await env.DB.exec('DROP TRIGGER audit_no_update')
  const forged = { ...firstOf(data), actor: 'somebody' }
  await env.DB.prepare('UPDATE audit SET actor = ?, hash = ? WHERE id = ?')
    .bind(forged.actor, await auditHash(forged), id)
    .run()
  expect((await list('&target=kept')).data).toMatchObject([{ actor: 'somebody', sealed: false }])
  await env.DB.prepare('UPDATE audit SET actor = ?, hash = ? WHERE id = ?')
    .bind('copal', firstOf(data).hash, id)
    .run()
  expect(await brokenRows(await list())).toEqual([])
})

test('a decision is in the log through the statement that stores it, with its figures and reason', async () => {
  await insertDecision(db, {
    model: 'audited',
    updateId: 'update-1',
    maskVersion: 3,
    kind: 'promote',
    verdict: 'done',
    reason: 'The canary passed.',
    actor: 'copal',
    createdAt: Date.now(),
  })
  expect((await list('&target=audited/m3')).data).toMatchObject([
    {
      actor: 'copal',
      action: 'decision.promote',
      reason: 'The canary passed.',
      after: { verdict: 'done', update: 'update-1', figures: [] },
    },
  ])
})

test('admin actions are recorded with actor, target, before and after, and no secret', async () => {
  const response = await admin('POST', '/keys', { name: 'audited', scopes: ['inference'] })
  const { id, key } = await response.json<{ id: string; key: string }>()
  // A row is completed after the response.
  const recorded = (rows: number) =>
    until(`${rows} rows`, async () => {
      const page = await list(`&target=${id}`)
      return page.data.length === rows ? page : undefined
    })
  await recorded(1)
  await adminJson('PATCH', `/keys/${id}`, { limits: { requests_per_minute: 7 } })
  await recorded(2)
  await adminJson('DELETE', `/keys/${id}`)
  const { data } = await recorded(3)
  expect(data.map(({ action }) => action)).toEqual([
    'POST /admin/keys',
    'PATCH /admin/keys/:id',
    'DELETE /admin/keys/:id',
  ])
  expect(data[0]).toMatchObject({
    actor: expect.stringMatching(/^admin-[0-9a-f]{8}$/),
    request_id: response.headers.get('x-request-id'),
    before: null,
    after: { status: 201, state: { name: 'audited', revokedAt: null } },
  })
  expect(data[1]).toMatchObject({
    before: { limits: {} },
    after: { status: 200, state: { limits: { requestsPerMinute: 7 } } },
  })
  expect(data[2]).toMatchObject({ after: { status: 200 } })
  expect(JSON.stringify(data)).not.toContain(key)
  expect(JSON.stringify(data)).not.toContain('"hash":"' + key)
})

test('the deletion of samples is recorded with whose they were', async () => {
  await adminJson('DELETE', '/samples?tenant=default&key=key_gone')
  const rows = await until('its row', async () => {
    const { data } = await list(`&target=${encodeURIComponent('tenant=default&key=key_gone')}`)
    return data.length > 0 ? data : undefined
  })
  expect(rows).toMatchObject([{ action: 'DELETE /admin/samples', after: { status: 200 } }])
})

test('a change of the policy is recorded with the policy before and after', async () => {
  const model = 'audited-policy'
  await sendHeartbeat({ id: 'audited-policy-1', url: 'http://127.0.0.1:1' }, model)
  const start = encodeURIComponent(new Date().toISOString())
  const change = async (min_minutes: number, rows: number) => {
    await adminJson('PUT', '/policy', { model, canary: { min_minutes } })
    return until('its row', async () => {
      const { data } = await list(`&since=${start}`)
      const found = data.filter(({ action }) => action === 'PUT /admin/policy')
      return found.length === rows ? found : undefined
    })
  }
  await change(3, 1)
  const rows = await change(4, 2)
  expect(rows[1]).toMatchObject({
    before: { [model]: { canary: { min_minutes: 3 } } },
    after: { status: 200, state: { [model]: { canary: { min_minutes: 4 } } } },
  })
})

test('rejected actions of authenticated actors are recorded with the error', async () => {
  const { id, key } = await createKey({ scopes: ['admin'] })
  const rejected = await admin('PUT', '/policy', {}, key)
  expect(rejected.status).toBe(403)
  const rows = await until('the row', async () => {
    const { data } = await list(`&actor=${id}`)
    return data.length > 0 ? data : undefined
  })
  expect(rows).toMatchObject([
    { action: 'PUT /admin/policy', after: { status: 403, error: 'insufficient_permissions' } },
  ])
})

describe("rejected calls of an action beyond a minute's rows", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'Date'] }))
  afterEach(() => void vi.useRealTimers())

  const pending = () => env.DB.prepare('select count(*) as rows from audit_pending').first('rows')
  /** Sends a call to an isolate; `ended` waits for what it does after its response. */
  const caller = (key: string) => {
    const app = createApp()
    const contexts: ExecutionContext[] = []
    const send = async (method: string, path: string) => {
      const ctx = createExecutionContext()
      contexts.push(ctx)
      const request = new Request(`${ORIGIN}/admin${path}`, {
        method,
        headers: { authorization: `Bearer ${key}` },
      })
      // No limit of changes, which would reject the last ones.
      return (await app.fetch(request, { ...env, COPAL_LISTS_PER_MINUTE: '0' }, ctx)).status
    }
    return { send, ended: () => Promise.all(contexts.map(waitOnExecutionContext)) }
  }

  test('are counted in the row of the last one, and those that are not rejected pass and have rows', async () => {
    const { id, key } = await createKey({ scopes: ['admin'] })
    const revoked = await createKey({ scopes: ['admin'] })
    await appendPendingAudit(testDeps())
    const { send, ended } = caller(key)
    for (let call = 0; call < ROWS; call += 1) expect(await send('DELETE', '/keys/key_gone')).toBe(404)
    await until('the rows before the last one', async () => (await pending()) === 1 || undefined)
    for (let call = 0; call < 7; call += 1) expect(await send('DELETE', '/keys/key_gone')).toBe(404)
    expect(await pending()).toBe(1)
    expect(await send('DELETE', `/keys/${revoked.id}`)).toBe(200)
    expect(await send('PUT', '/policy')).toBe(403)
    await vi.advanceTimersByTimeAsync(COUNTED_MS)
    await ended()
    await appendPendingAudit(testDeps())
    const { data } = await list(`&actor=${id}`)
    const statuses = data.map(({ after }) => (after as { status: number }).status)
    expect(statuses.filter((status) => status === 404)).toHaveLength(ROWS)
    expect(statuses.filter((status) => status !== 404)).toEqual(expect.arrayContaining([200, 403]))
    expect(data).toHaveLength(ROWS + 2)
    expect(data.find(({ target }) => target === revoked.id)).toMatchObject({ after: { status: 200 } })
    expect(data.filter(({ reason }) => reason !== '')).toMatchObject([
      { after: { status: 404 }, reason: expect.stringContaining('7 more calls of this action') as string },
    ])
    // Calls have rows again.
    expect(await send('DELETE', '/keys/key_gone')).toBe(404)
    await ended()
    expect((await list(`&actor=${id}`)).data).toHaveLength(data.length + 1)
  })
})

test('a row that counts rejected calls is completed after the last of them, and never if one has no end', () => {
  const counted = new CountedRejections<string>(10)
  counted.row = 'the row'
  expect([counted.isOpen(9), counted.isOpen(10)]).toEqual([true, false])
  for (let call = 0; call < 3; call += 1) counted.begin()
  expect(counted.end(true)).toBeUndefined()
  expect(counted.endCounting()).toBeUndefined()
  expect(counted.isOpen(9)).toBe(false)
  expect(counted.end(false)).toBeUndefined()
  expect(counted.end(true)).toBe('the row')
  expect(counted.rejected).toBe(2)
})

test('a request appends a part of many rows that wait, because it may have used most calls of its event', async () => {
  await env.DB.prepare(
    `insert into audit_pending (actor, action, target, created_at, settled)
      with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 100)
      select 'copal', 'test', 'many', 1, 1 from numbers`,
  ).run()
  await sender(TEST_ADMIN_KEY)('DELETE', '/keys/key_gone')
  const waiting = () => env.DB.prepare('select count(*) as rows from audit_pending').first<{ rows: number }>()
  expect(await waiting()).toEqual({ rows: 21 })
  await appendPendingAudit(testDeps())
  expect(await waiting()).toEqual({ rows: 0 })
})

test('an action whose end was lost is recorded as one of unknown outcome, and none happens without a row', async () => {
  const hour = 60 * 60_000
  await announceAudit({ db, nowMs: () => Date.now() - hour }, entry('lost'))
  await appendPendingAudit(testDeps())
  expect((await list('&target=lost')).data).toMatchObject([{ after: { outcome: 'unknown' } }])
})

test('retention deletes old rows behind a sealed checkpoint, and the rest is still verified', async () => {
  const later = (days: number) => ({ ...testDeps(), auditDays: 10, nowMs: () => Date.now() + days * DAY_MS })
  await recordAudit(testDeps(), entry('old'))
  await appendPendingAudit(testDeps())
  await recordAudit(later(20), entry('new'))
  await appendPendingAudit(testDeps())
  await deleteOldAudit(later(20))
  const page = await list()
  expect(page.data.map(({ target }) => target)).toEqual(['new'])
  expect(page.checkpoint).toMatchObject({ id: firstOf(page.data).id - 1, sealed: true })
  expect(await brokenRows(page)).toEqual([])
  await deleteOldAudit({ ...later(90), auditDays: 0 })
  expect((await list()).data).toHaveLength(1)
})

test('the retention leaves one checkpoint a day, however often it runs', async () => {
  const dayMs = Date.UTC(2030, 0, 1)
  const at = (days: number, hours: number) => ({
    ...testDeps(),
    auditDays: 10,
    nowMs: () => dayMs + days * DAY_MS + hours * 3_600_000,
  })
  await deleteOldAudit(at(1, 0))
  for (const hour of [0, 1, 2, 3]) await recordAudit(at(0, hour), entry(`hour ${hour}`))
  await recordAudit(at(12, 0), entry('new'))
  await appendPendingAudit(testDeps())
  const checkpoints = async () =>
    (await env.DB.prepare('select count(*) as count from audit_checkpoints').first<{ count: number }>())
      ?.count ?? 0
  await deleteOldAudit(at(10, 0))
  const before = await checkpoints()
  for (const hour of [1, 2, 3, 4, 23]) await deleteOldAudit(at(10, hour))
  expect(await checkpoints()).toBe(before)
  for (const hour of [0, 1, 2, 23]) await deleteOldAudit(at(11, hour))
  expect(await checkpoints()).toBe(before + 1)
  const page = await list()
  expect(page.data.map(({ target }) => target)).toEqual(['new'])
  expect(await brokenRows(page)).toEqual([])
})

test('the newest rows come first on request, page by page', async () => {
  for (const target of ['first', 'second', 'third']) await recordAudit(testDeps(), entry(target))
  await appendPendingAudit(testDeps())
  const all = (await list()).data.map(({ id }) => id)
  const newest = (query: string) => adminJson<AuditPage>('GET', `/audit?order=newest&limit=2${query}`)
  const page = await newest('')
  expect(page.data.map(({ id }) => id)).toEqual(all.slice(-2).reverse())
  expect(page).toMatchObject({ next_after: null, next_before: all.at(-2) })
  const older = await newest(`&before=${page.next_before}`)
  expect(older.data[0]?.id).toBe(all.at(-3))
})

test('a time that is none is rejected with an example of one', async () => {
  const response = await admin('GET', '/audit?since=yesterday')
  expect(response.status).toBe(400)
  expect(await errorOf(response)).toMatchObject({
    param: 'since',
    message: expect.stringContaining('such as 2026-05-01T00:00:00Z') as unknown,
  })
})
