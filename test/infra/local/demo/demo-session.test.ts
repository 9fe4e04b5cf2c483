import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, beforeEach, expect, test, vi } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { updateOf } from '../../../support/dashboard/reports.ts'

const overrides: object[] = []
const revoked: string[] = []
const cancelled: string[] = []
let updates: UpdateEntry[] = []
let keys = 0
let inForce: object = {}
const gateway = createServer((request, response) => {
  void text(request).then((body) => {
    const { method, url = '' } = request
    response.setHeader('content-type', 'application/json')
    if (url.startsWith('/admin/keys')) {
      const id = url.split('/')[3]
      if (id !== undefined) revoked.push(id)
      response.end(JSON.stringify(id === undefined ? newKey(++keys) : { id, revoked: true }))
      return
    }
    if (url.startsWith('/admin/updates')) {
      const id = url.split('/')[3]
      if (id === undefined) response.end(JSON.stringify({ data: updates }))
      else {
        cancelled.push(`${method} ${id}`)
        response.end(JSON.stringify(updateOf({ id, state: 'cancelled' })))
      }
      return
    }
    if (method === 'PUT') overrides.push(JSON.parse(body) as object)
    const policy = PRESETS.local
    const report = {
      model: 'm',
      revision: 0,
      policy,
      overrides: inForce,
      preset_policy: policy,
      deployment_preset: 'local',
    }
    response.end(JSON.stringify(report))
  })
}).listen(0, '127.0.0.1')
await once(gateway, 'listening')
afterAll(() => {
  vi.unstubAllEnvs()
  gateway.close()
})

function newKey(number: number): CreatedKey {
  return {
    id: `key_${number}`,
    name: `demo ${number}`,
    tenant: 'default',
    prefix: 'copal-1234',
    scopes: ['inference'],
    default_domain: 'default',
    discover_domains: true,
    allowed_domains: null,
    allowed_models: null,
    sampling: 'always',
    limits: {
      requests_per_minute: null,
      tokens_per_minute: null,
      tokens_per_month: null,
      concurrent_requests: null,
    },
    created_at: '2026-11-30T00:00:00.000Z',
    expires_at: null,
    previous_valid_until: null,
    key: 'copal-secret',
  }
}

beforeEach(() => {
  vi.resetModules()
  vi.stubEnv('COPAL_BASE_URL', `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`)
  vi.stubEnv('COPAL_ADMIN_KEY', 'copal-admin-test')
})

/** Returns a new session of a demo, and what a person does who presses Ctrl-C. */
async function openSession() {
  const others = process.listeners('SIGINT')
  const session = await import('../../../../infra/local/demo/demo-session.ts')
  const listeners = process.listeners('SIGINT').filter((listener) => !others.includes(listener))
  return {
    ...session,
    interrupt: (): Promise<void> => {
      for (const listener of listeners) listener('SIGINT')
      return Promise.reject(session.interrupted.reason as Error)
    },
  }
}

test('a demo that is interrupted sets the former policy again', async () => {
  const { withPolicy, interrupt } = await openSession()
  const work = withPolicy({ triggers: { enabled: false } }, interrupt)
  await expect(work).rejects.toThrow('aborted')
  expect(overrides).toEqual([{ triggers: { enabled: false } }, {}])
})

test('a demo that is interrupted revokes its keys', async () => {
  const { withKeys, interrupt } = await openSession()
  await expect(withKeys(2, interrupt)).rejects.toThrow('aborted')
  expect(revoked).toEqual(['key_1', 'key_2'])
})

test('a demo that is interrupted cancels the updates that it left running, and no others', async () => {
  const { withoutLeftUpdates, interrupt } = await openSession()
  const printed = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  updates = [updateOf({ id: 'before' })]
  const work = withoutLeftUpdates(() => {
    updates = [
      updateOf({ id: 'left', state: 'canary', domains: ['speech'] }),
      updateOf({ id: 'ended', state: 'promoted', finished_at: '2026-11-30T00:00:00.000Z' }),
      ...updates,
    ]
    return interrupt()
  })
  await expect(work).rejects.toThrow('aborted')
  expect(cancelled).toEqual(['POST left'])
  expect(printed.mock.calls.join('')).toContain('Cancelled update left of speech, which was in canary.')
  printed.mockRestore()
})

test('a demo that ends by itself cancels nothing', async () => {
  const { withoutLeftUpdates } = await openSession()
  cancelled.length = 0
  await withoutLeftUpdates(() => {
    updates = [updateOf({ id: 'later' })]
    return Promise.resolve()
  })
  expect(cancelled).toEqual([])
})

test('the policy of a demo that was killed is not taken for the one from before', async () => {
  const { withPolicy } = await openSession()
  const printed = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  overrides.length = 0
  const changes = { watch: { soak_minutes: 0.5 }, triggers: { max_per_day: 9, enabled: true } }
  // In the order of the gateway's schema, beside a setting of a person.
  inForce = { gate: { max_regression: 1.1 }, ...changes, triggers: { enabled: true, max_per_day: 9 } }
  await withPolicy(changes, () => Promise.resolve())
  expect(overrides.at(-1)).toEqual({ gate: { max_regression: 1.1 } })
  expect(printed.mock.calls.join('')).toContain(
    'An earlier demo was killed and left its policy (watch, triggers)',
  )
  // A part with another value, or a single one, is a person's.
  inForce = { watch: { soak_minutes: 0.5 }, triggers: { enabled: false } }
  await withPolicy(changes, () => Promise.resolve())
  expect(overrides.at(-1)).toEqual(inForce)
  await withPolicy({ triggers: { enabled: false } }, () => Promise.resolve())
  expect(overrides.at(-1)).toEqual(inForce)
  printed.mockRestore()
})
