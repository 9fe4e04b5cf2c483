import { env, exports } from 'cloudflare:workers'
import { eq } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import type { AuditPage } from '@copal/shared/wire/admin-audit.ts'
import type { CreatedKey, CreateKey } from '@copal/shared/wire/admin-keys.ts'
import type { DashboardLink, SessionEntry } from '@copal/shared/wire/admin-session.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import {
  deleteOldSessions,
  SESSION_IDLE_MS,
  SESSION_MS,
} from '../../../../gateway/src/keys/dashboard-sessions.ts'
import { digestOf } from '../../../../gateway/src/keys/key-secret.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertSession } from '../../../../gateway/src/storage/db/queries/session-queries.ts'
import { dashboardLinks, dashboardSessions } from '../../../../gateway/src/storage/db/schema/dashboard.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { moveClock } from '../../support/doubles/stopped-clock.ts'
import { postSession, signIn, type Browser } from '../../support/requests/dashboard-session.ts'
import { errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'

const db = openDatabase(env.DB)
const createKey = (fields: Partial<CreateKey> = {}) =>
  adminJson<CreatedKey>('POST', '/keys', { name: 'of a test', scopes: ['read-admin'], ...fields })
const link = async () =>
  (await adminJson<DashboardLink>('POST', '/dashboard-links')).url.split('#code=')[1] ?? ''

describe('signing in', () => {
  test('sets a cookie that no script reads and no other site sends, and the database has neither cookie nor secret', async () => {
    const response = await postSession({ key: TEST_ADMIN_KEY })
    expect([response.status, response.headers.get('cache-control')]).toEqual([201, 'no-store'])
    const [value = '', ...attributes] = (response.headers.get('set-cookie') ?? '').split('; ')
    expect(value).toMatch(/^copal_session=[\w-]{43}\.[0-9a-f]{64}$/)
    expect(attributes.toSorted()).toEqual(['HttpOnly', 'Max-Age=604800', 'Path=/', 'SameSite=Strict'])
    const entry = await response.json<SessionEntry>()
    expect(entry).toMatchObject({ role: 'operator', name: 'admin key', tenant: null, may_change: true })
    const stored = JSON.stringify(await db.select().from(dashboardSessions))
    for (const secret of [
      ...value.replace('copal_session=', '').split('.'),
      entry.csrf,
      await digestOf(TEST_ADMIN_KEY),
    ])
      expect(stored).not.toContain(secret)
    const { data } = await adminJson<AuditPage>('GET', '/audit?limit=500')
    expect(data.filter(({ action }) => action === 'dashboard.sign_in').at(-1)).toMatchObject({
      target: 'operator',
    })
  })

  test('marks the cookie as secure where the service is reached by https', async () => {
    const secure = await exports.default.fetch('https://gateway/dashboard/session', {
      method: 'POST',
      body: JSON.stringify({ key: TEST_ADMIN_KEY }),
    })
    expect(secure.headers.get('set-cookie')).toContain('; Secure')
    const proxied = await postSession({ key: TEST_ADMIN_KEY }, { 'x-forwarded-proto': 'https' })
    expect(proxied.headers.get('set-cookie')).toContain('; Secure')
  })

  test.each([
    ['an unknown key', { key: 'sk-copal-unknown' }, 401, 'invalid_api_key'],
    ['what is no key', { key: 'guess' }, 401, 'invalid_api_key'],
    ['an unknown code', { code: 'guess' }, 401, 'invalid_api_key'],
    ['nothing', {}, 400, 'invalid_request'],
    ['a key and a code', { key: TEST_ADMIN_KEY, code: 'x' }, 400, 'invalid_request'],
  ])('with %s fails', async (_what, body, status, code) => {
    const response = await postSession(body)
    expect([response.status, (await errorOf(response)).code]).toEqual([status, code])
    expect(response.headers.get('set-cookie')).toBeNull()
  })

  test('fails for a key that opens no part of the dashboard', async () => {
    const { key } = await createKey({ scopes: ['inference'] })
    const response = await postSession({ key })
    expect([response.status, (await errorOf(response)).message]).toEqual([
      403,
      "The admin key, or an API key with the scope 'admin', 'read-metrics' or 'read-admin' is needed here. This key has the scope 'inference'.",
    ])
  })

  test('fails with the old secret of a rotated key, which is valid for a while: the session would outlive it', async () => {
    const { id, key } = await createKey()
    const rotated = await adminJson<CreatedKey>('POST', `/keys/${id}/rotate`, { grace_seconds: 3600 })
    const old = await postSession({ key })
    expect([old.status, (await errorOf(old)).message]).toEqual([
      401,
      'This key was rotated, and its old secret opens no session. Sign in with the new one.',
    ])
    expect((await postSession({ key: rotated.key })).status).toBe(201)
  })

  test.each([
    ['keys', (i: number) => ({ key: `guess-${i}` })],
    ['codes', (i: number) => ({ code: `guess-${i}` })],
  ])('is refused to an address that tries many %s', async (_what, guess) => {
    const app = createApp()
    const attempt = async (body: object) => {
      const ctx = createExecutionContext()
      const response = await app.request(
        '/dashboard/session',
        { method: 'POST', body: JSON.stringify(body), headers: { 'cf-connecting-ip': '203.0.113.9' } },
        { ...env, COPAL_UNKNOWN_KEYS_PER_MINUTE: '3' },
        ctx,
      )
      await waitOnExecutionContext(ctx)
      return response.status
    }
    const statuses: number[] = []
    for (let i = 0; i < 5; i += 1) statuses.push(await attempt(guess(i)))
    expect(statuses).toEqual([401, 401, 401, 429, 429])
    // Also for the right one: otherwise an attacker would learn which it is.
    expect(await attempt({ key: 'copal-admin' })).toBe(429)
  })
})

describe('a one-time link', () => {
  test('signs in once, as the key that made it', async () => {
    const { url, expires_at } = await adminJson<DashboardLink>('POST', '/dashboard-links')
    expect(url).toMatch(/^http:\/\/gateway\/dashboard#code=[\w-]{43}$/)
    expect(Date.parse(expires_at) - Date.now()).toBeLessThanOrEqual(5 * 60_000)
    const code = url.split('#code=')[1] ?? ''
    expect(JSON.stringify(await db.select().from(dashboardLinks))).not.toContain(code)
    const both = await Promise.all([postSession({ code }), postSession({ code })])
    expect(both.filter(({ status }) => status === 201)).toHaveLength(1)
    expect(both.filter(({ status }) => status === 401)).toHaveLength(1)
    expect((await postSession({ code })).status).toBe(401)
  })

  test('ends after five minutes', async () => {
    const code = await link()
    moveClock(5 * 60_000)
    expect((await errorOf(await postSession({ code }))).message).toContain('older than five minutes')
  })

  test('is made with the admin key alone: neither by a session, which it would outlive, nor by other keys', async () => {
    const browser = await signIn()
    expect((await browser.send('POST', '/admin/dashboard-links')).status).toBe(403)
    for (const scope of ['admin', 'read-admin'] as const) {
      const { key } = await createKey({ scopes: [scope] })
      expect((await admin('POST', '/dashboard-links', undefined, key)).status).toBe(403)
    }
  })
})

describe('a session', () => {
  test('opens the admin API, and ends when it is signed out', async () => {
    const browser = await signIn()
    expect((await browser.send('GET', '/admin/keys')).status).toBe(200)
    expect(await (await browser.send('GET', '/dashboard/session')).json()).toEqual({
      ...browser.entry,
      expires_at: expect.any(String) as string,
    })
    const out = await browser.send('DELETE', '/dashboard/session')
    expect(await out.json()).toEqual({ signed_out: true })
    expect(out.headers.get('set-cookie')).toMatch(
      /^copal_session=; Max-Age=0; Path=\/; HttpOnly; SameSite=Strict$/,
    )
    const after = await browser.send('GET', '/admin/keys')
    expect([after.status, (await errorOf(after)).message]).toEqual([
      401,
      "The session of the dashboard has ended. Sign in again at '/dashboard'.",
    ])
  })

  test('is replaced by the next one of the same browser', async () => {
    const browser = await signIn()
    expect((await postSession({ key: TEST_ADMIN_KEY }, { cookie: browser.cookie })).status).toBe(201)
    expect((await browser.send('GET', '/admin/keys')).status).toBe(401)
  })

  test('is not made by an invented or altered cookie', async () => {
    const { cookie } = await signIn()
    const altered = [
      'copal_session=x',
      `copal_session=${'a'.repeat(43)}.${'0'.repeat(64)}`,
      cookie.replace(/.$/, (last) => (last === '0' ? '1' : '0')),
    ]
    for (const value of altered) {
      const response = await exports.default.fetch(`${ORIGIN}/admin/keys`, { headers: { cookie: value } })
      expect(response.status).toBe(401)
    }
  })

  test('changes nothing without its secret in the header, or for a page of another origin', async () => {
    const browser = await signIn()
    const rotate = (headers: Record<string, string>) =>
      browser.send('POST', '/admin/keys', { body: { name: 'forged' }, headers })
    const other = await signIn()
    // The last one has as many characters as a secret, and more bytes.
    for (const csrf of ['', 'x', other.entry.csrf, 'é'.padEnd(other.entry.csrf.length, 'a')]) {
      const response = await rotate({ 'x-copal-csrf': csrf })
      expect([response.status, (await errorOf(response)).param]).toEqual([403, 'x-copal-csrf'])
    }
    for (const headers of [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: `${ORIGIN}.evil.example` },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
    ]) {
      const response = await rotate(headers)
      expect([response.status, (await errorOf(response)).param]).toEqual([403, 'origin'])
      expect((await postSession({ key: TEST_ADMIN_KEY }, headers)).status).toBe(403)
    }
    expect(await (await browser.send('GET', '/admin/keys')).text()).not.toContain('forged')
    expect((await rotate({ origin: ORIGIN, 'sec-fetch-site': 'same-origin' })).status).toBe(201)
  })

  test('stands back behind a bearer token', async () => {
    const browser = await signIn()
    const { key } = await createKey()
    const headers = { authorization: `Bearer ${key}` }
    // The observer's key: the operator's session may do this.
    expect((await browser.send('POST', '/admin/keys', { body: { name: 'x' }, headers })).status).toBe(403)
    const unknown = { authorization: 'Bearer sk-copal-unknown' }
    expect((await browser.send('GET', '/admin/keys', { headers: unknown })).status).toBe(401)
  })

  test.each([
    ['is revoked', (id: string) => admin('DELETE', `/keys/${id}`)],
    ['is rotated', (id: string) => admin('POST', `/keys/${id}/rotate`, { grace_seconds: 3600 })],
  ])('ends when its key %s', async (_what, change) => {
    const { id, key } = await createKey()
    const browser = await signIn({ key })
    expect((await browser.send('GET', '/admin/keys')).status).toBe(200)
    expect((await change(id)).status).toBe(200)
    expect((await browser.send('GET', '/admin/keys')).status).toBe(401)
  })

  test('ends when its key has signed in a hundred times since, which does not end those of others', async () => {
    const { id, key } = await createKey()
    const [first, last, other] = [await signIn({ key }), await signIn({ key }), await signIn()]
    const statusOf = async (browser: Browser) => (await browser.send('GET', '/admin/keys')).status
    const row = await db.select().from(dashboardSessions).where(eq(dashboardSessions.keyId, id)).get()
    const signInLater = async (hash: string, ms: number) => {
      const seenAt = Date.now() + ms
      if (row) await insertSession(db, { ...row, hash, createdAt: seenAt, seenAt })
    }
    for (let i = 0; i < 98; i += 1) await signInLater(`of a test ${i}`, 1_000)
    for (const browser of [first, last, other]) expect(await statusOf(browser)).toBe(200)
    for (let i = 98; i < 100; i += 1) await signInLater(`of a test ${i}`, 1_000)
    for (const browser of [first, last]) expect(await statusOf(browser)).toBe(401)
    expect(await statusOf(other)).toBe(200)
    expect(await db.$count(dashboardSessions, eq(dashboardSessions.keyId, id))).toBe(100)
  })

  test('ends when its key expires', async () => {
    const expires_at = new Date(Date.now() + 60_000).toISOString()
    const browser = await signIn({ key: (await createKey({ expires_at })).key })
    moveClock(60_000)
    expect((await browser.send('GET', '/admin/keys')).status).toBe(401)
  })

  test('of the admin key ends when that is replaced', async () => {
    const { cookie } = await signIn()
    const ask = async (adminKey: string) => {
      const ctx = createExecutionContext()
      const bindings = { ...env, ADMIN_KEY_SHA256: await digestOf(adminKey) }
      const response = await createApp().request('/admin/keys', { headers: { cookie } }, bindings, ctx)
      await waitOnExecutionContext(ctx)
      return response.status
    }
    expect(await ask(TEST_ADMIN_KEY)).toBe(200)
    expect(await ask('another')).toBe(401)
  })

  test('ends after twelve hours without use, and after seven days in any case', async () => {
    const [unused, used] = [await signIn(), await signIn()]
    const statusOf = async (browser: Browser) => (await browser.send('GET', '/admin/keys')).status
    // Uses are recorded to five minutes.
    const [stepMs, restMs] = [SESSION_IDLE_MS - 10 * 60_000, 10 * 60_000]
    moveClock(stepMs)
    expect(await statusOf(used)).toBe(200)
    moveClock(restMs)
    expect(await statusOf(unused)).toBe(401)
    for (let ageMs = SESSION_IDLE_MS; ageMs + stepMs < SESSION_MS; ageMs += stepMs) {
      expect(await statusOf(used)).toBe(200)
      moveClock(stepMs)
    }
    expect(await statusOf(used)).toBe(200)
    moveClock(stepMs)
    expect(await statusOf(used)).toBe(401)
    await deleteOldSessions({ db, nowMs: () => Date.now() })
    expect(await db.select().from(dashboardSessions)).toEqual([])
  })
})
