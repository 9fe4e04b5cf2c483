import { expect, test } from 'vitest'
import type { ErrorBody } from '@copal/shared/errors.ts'
import { toOutageError } from '../../../gateway/src/middleware/outage-error.ts'
import { OPERATIONS } from '../../../gateway/src/openapi/operations.ts'
import { fetchDocumented } from '../support/requests/documented.ts'
import { createKey, get, ORIGIN } from '../support/requests/gateway-requests.ts'
import { loseDatabase } from '../support/faults/lost-database.ts'
import { TEST_ADMIN_KEY } from '../support/setup/secrets.ts'

const rejectedData = new Error('D1_ERROR: UNIQUE constraint failed: masks.version: SQLITE_CONSTRAINT')
const lost = new Error('D1_ERROR: Network connection lost.')
const marked = (mark: object) => Object.assign(new Error('internal error'), mark)

test.each([
  ['D1 lost its connection', lost],
  ['a query failed because of that', new Error('Failed query: select', { cause: lost })],
  [
    'the runtime failed',
    new Error('Failed query: select', { cause: new Error('internal error; reference = a1b2') }),
  ],
  ['the connection to an object broke', marked({ retryable: true })],
  ['an object is overloaded', marked({ retryable: false, overloaded: true })],
])('it is an outage that %s', (_, thrown) => {
  expect(toOutageError(thrown)).toMatchObject({ status: 503, retryAfterS: 5, cause: thrown })
})

test.each([
  ['D1 rejects a value', new Error('Failed query: insert', { cause: rejectedData })],
  ['a table is missing', new Error('D1_ERROR: no such table: masks: SQLITE_ERROR')],
  ['an object threw', marked({ remote: true })],
  ['a string was thrown', 'a text'],
])('it is no outage that %s', (_, thrown) => {
  expect(toOutageError(thrown)).toBeUndefined()
})

/** Valid bodies, by operation, so that requests reach the database. */
const BODIES: Record<string, object> = {
  createKey: { name: 'n' },
  createUpdate: { domains: ['a'] },
  evaluateText: { text: 'Once upon a time.' },
}

test('without its database no operation of the gateway responds with a plain 500', async () => {
  const { key } = await createKey()
  // The key is now verified and cached.
  expect((await get('/v1/models', key)).status).toBe(200)
  const log = loseDatabase()
  const answers = new Map<string, { status: number; retryAfter: string | null; text: string }>()
  for (const { id, method, key: kind, path, body } of OPERATIONS) {
    const url = path.replaceAll('{sha256}', 'a'.repeat(64)).replace(/\{\w+\}/g, 'x')
    const response = await fetchDocumented(
      new Request(ORIGIN + url, {
        method: method.toUpperCase(),
        headers: {
          authorization: `Bearer ${kind === 'inference' ? key : TEST_ADMIN_KEY}`,
          ...(body ? { 'content-type': 'application/json' } : {}),
        },
        ...(body ? { body: JSON.stringify(BODIES[id] ?? {}) } : {}),
      }),
    )
    const { status, headers } = response
    answers.set(id, { status, retryAfter: headers.get('retry-after'), text: await response.text() })
  }
  expect([...answers.values()].filter(({ status }) => status >= 500 && status !== 503)).toEqual([])
  const unavailable = [...answers].filter(([, { status }]) => status === 503)
  const known = [
    'listModels',
    'getModel',
    'createKey',
    'getStatus',
    'createUpdate',
    'getMaskFile',
    'getMetrics',
  ]
  expect(unavailable.map(([id]) => id)).toEqual(expect.arrayContaining(known))
  const told = new Set(
    unavailable.map(([, { retryAfter, text }]) => {
      const { type, code } = (JSON.parse(text) as ErrorBody).error
      return `${code}, ${type}, again after ${retryAfter} s`
    }),
  )
  expect([...told]).toEqual(['service_unavailable, server_error, again after 5 s'])
  expect(log.mock.calls.flat().join(' ')).toContain('Network connection lost')
})
