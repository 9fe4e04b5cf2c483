import { env } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { ErrorBody } from '@copal/shared/errors.ts'
import { createApp } from '../../../gateway/src/app.ts'
import { chainOf, outageOf } from '../../../gateway/src/middleware/outage.ts'
import { OPERATIONS } from '../../../gateway/src/openapi/operations.ts'
import { createKey, ORIGIN } from '../support/gateway.ts'
import { TEST_ADMIN_KEY } from '../support/secrets.ts'

const refused = new Error('D1_ERROR: UNIQUE constraint failed: masks.version: SQLITE_CONSTRAINT')
const lost = new Error('D1_ERROR: Network connection lost.')
const marked = (mark: object) => Object.assign(new Error('internal error'), mark)

test.each([
  ['D1 lost its connection', lost, true],
  ['a query failed because of that', new Error('Failed query: select', { cause: lost }), true],
  ['the connection to an object broke', marked({ retryable: true }), true],
  ['an object is flooded', marked({ retryable: false, overloaded: true }), true],
  ['D1 refuses what it was given', new Error('Failed query: insert', { cause: refused }), false],
  ['an object threw', marked({ remote: true }), false],
  ['nobody knows what happened', 'a text', false],
])('whether it passes that %s', (_, thrown, doesPass) => {
  const outage = outageOf(thrown)
  if (doesPass) expect(outage).toMatchObject({ status: 503, retryAfterS: 5, cause: thrown })
  else expect(outage).toBeUndefined()
})

test('a chain of causes that closes on itself ends', () => {
  const first = new Error('first')
  const second = new Error('second', { cause: first })
  first.cause = second
  expect(chainOf(first)).toEqual([first, second])
})

/** Bodies that reach the database, of the operations that take one. */
const BODIES: Record<string, object> = {
  createKey: { name: 'n' },
  createUpdate: { domains: ['a'] },
  evaluateText: { text: 'Once upon a time.' },
}

test('without its database the gateway fails with a plain 500 nowhere', async () => {
  const { key } = await createKey()
  const log = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => log.mockRestore())
  const fail = () => Promise.reject(lost)
  const statement = { bind: () => statement, run: fail, all: fail, raw: fail, first: fail }
  const down = { ...env, DB: { prepare: () => statement, batch: fail } } as unknown as Cloudflare.Env
  const app = createApp()
  const ask = (bindings: Cloudflare.Env, path: string, init: RequestInit) =>
    app.request(new Request(ORIGIN + path, init), {}, bindings, createExecutionContext())
  const headers = { authorization: `Bearer ${key}` }
  // From now on its key is trusted.
  expect((await ask(env, '/v1/models', { headers })).status).toBe(200)
  const unavailable: string[] = []
  for (const operation of OPERATIONS) {
    const path = operation.path.replaceAll('{sha256}', 'a'.repeat(64)).replace(/\{\w+\}/g, 'x')
    const response = await ask(down, path, {
      method: operation.method.toUpperCase(),
      headers: {
        authorization: `Bearer ${operation.key === 'inference' ? key : TEST_ADMIN_KEY}`,
        ...(operation.body ? { 'content-type': 'application/json' } : {}),
      },
      ...(operation.body ? { body: JSON.stringify(BODIES[operation.id] ?? {}) } : {}),
    })
    const text = await response.text()
    expect([500, 502], `${operation.id}: ${text}`).not.toContain(response.status)
    if (response.status !== 503) continue
    unavailable.push(operation.id)
    expect(response.headers.get('retry-after'), operation.id).toBe('5')
    const { error } = JSON.parse(text) as ErrorBody
    expect(error, operation.id).toMatchObject({ type: 'server_error', code: 'service_unavailable' })
  }
  const known = [
    'listModels',
    'getModel',
    'createKey',
    'getStatus',
    'createUpdate',
    'getMaskFile',
    'getMetrics',
  ]
  expect(unavailable).toEqual(expect.arrayContaining(known))
  expect(log.mock.calls.flat().join(' ')).toContain('Network connection lost')
})
