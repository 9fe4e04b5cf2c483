import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { createApiClient } from '../../../../gpu-node/cli/api/api-client.ts'
import { updateOf } from '../../../support/dashboard/reports.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

const overrides: object[] = []
const revoked: string[] = []
const cancelled: string[] = []
let updates: UpdateEntry[] = []
let keys = 0
let inForce: object = {}
let home = ''
const SERVED =
  "Update 'served' is promoting, and node 'node-1' serves its mask already. Roll it back with 'POST /admin/rollback'."
/** How many of the next changes of the policy meet another one in between. */
let conflicts = 0
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
        if (id === 'served') {
          const error = { message: SERVED, type: 'invalid_request_error', param: null, code: 'conflict' }
          response.writeHead(409).end(JSON.stringify({ error }))
          return
        }
        response.end(JSON.stringify(updateOf({ id, state: 'cancelled' })))
      }
      return
    }
    if (method === 'PUT' && conflicts > 0) {
      conflicts -= 1
      const error = { message: 'It was set.', type: 'invalid_request_error', param: null, code: 'conflict' }
      response.writeHead(409).end(JSON.stringify({ error }))
      return
    }
    if (method === 'PUT') {
      const { model: _, revision: __, ...set } = JSON.parse(body) as Record<string, unknown>
      overrides.push(set)
      inForce = set
    }
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
  home = temporaryDir()
  vi.stubEnv('COPAL_HOME', home)
  inForce = {}
  overrides.length = 0
  cancelled.length = 0
})

/** Returns the file of changes that were not taken back yet. */
function changesPath(): string {
  return join(home, 'demo-policy.json')
}

/** Returns a new session of a demo, and what a person does who presses Ctrl-C. */
async function openSession() {
  const others = process.listeners('SIGINT')
  const session = await import('../../../../infra/local/demo/demo-session.ts')
  const listeners = process.listeners('SIGINT').filter((listener) => !others.includes(listener))
  const { undoLeftChanges } = await import('../../../../infra/local/service/demo-policy.ts')
  return {
    ...session,
    undoLeftChanges,
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

test('an update whose mask is served already is not cancelled, and the roll-back is named', async () => {
  const { withoutLeftUpdates, interrupt } = await openSession()
  const printed = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  updates = []
  const work = withoutLeftUpdates(() => {
    updates = [updateOf({ id: 'served', state: 'promoting', domains: ['speech'] })]
    return interrupt()
  })
  await expect(work).rejects.toThrow('aborted')
  expect(printed.mock.calls.join('')).toContain("could not be cancelled: Update 'served' is promoting")
  expect(printed.mock.calls.join('')).toContain('npx copal rollback')
  printed.mockRestore()
})

test('a demo that ends by itself cancels nothing', async () => {
  const { withoutLeftUpdates } = await openSession()
  await withoutLeftUpdates(() => {
    updates = [updateOf({ id: 'later' })]
    return Promise.resolve()
  })
  expect(cancelled).toEqual([])
})

describe('the policy of a demo that was killed', () => {
  const person = { gate: { max_regression: 1.1 }, triggers: { enabled: true, max_per_day: 9 } }
  const short = { watch: { soak_minutes: 0.5 } }

  /** Kills a demo in the middle of its second change, as `--by-hand` makes them: its file names a process that is gone. */
  async function killDemo() {
    const { withPolicy } = await openSession()
    let left = ''
    inForce = person
    await withPolicy({ triggers: { enabled: false } }, () =>
      withPolicy(short, async () => {
        left = (await readFile(changesPath(), 'utf8')).replaceAll(`"pid": ${process.pid}`, '"pid": 999999999')
      }),
    )
    expect(inForce).toEqual(person)
    expect(existsSync(changesPath())).toBe(false)
    await writeFile(changesPath(), left)
    inForce = { gate: person.gate, ...short, triggers: { enabled: false } }
    const printed: string[] = []
    const write = vi
      .spyOn(process.stdout, 'write')
      .mockImplementation((line) => printed.push(String(line)) > 0)
    onTestFinished(() => write.mockRestore())
    return printed
  }

  test('is taken back by the next demo, which sets the one from before again', async () => {
    const printed = await killDemo()
    const { withPolicy } = await openSession()
    await withPolicy({ discovery: { enabled: true } }, () => {
      expect(inForce).toEqual({ ...person, discovery: { enabled: true } })
      return Promise.resolve()
    })
    expect(inForce).toEqual(person)
    expect(existsSync(changesPath())).toBe(false)
    expect(printed).toEqual([
      'An earlier demo was killed and left its policy (triggers, watch). The former one is set again.\n',
    ])
  })

  test('is taken back by the next start of the service, but for what a person has set meanwhile', async () => {
    await killDemo()
    const { session, undoLeftChanges } = await openSession()
    Object.assign(inForce, { watch: { soak_minutes: 7 } })
    const lines: string[] = []
    const owner = { client: session.client(), adminKey: 'copal-admin-test', homeDir: home }
    const print = (line: string) => void lines.push(line)
    await undoLeftChanges({ ...owner, adminKey: 'of another gateway' }, print)
    expect(lines).toEqual([])
    conflicts = 2
    await undoLeftChanges(owner, print)
    expect(inForce).toEqual({ ...person, watch: { soak_minutes: 7 } })
    await undoLeftChanges(owner, print)
    expect(lines).toHaveLength(1)
  })

  test('stays on disk while the gateway cannot take it back', async () => {
    const printed = await killDemo()
    const { undoLeftChanges } = await openSession()
    const client = createApiClient({ origin: 'http://127.0.0.1:1', apiKey: undefined, adminKey: 'a' })
    const print = (line: string) => void printed.push(line)
    await undoLeftChanges({ client, adminKey: 'copal-admin-test', homeDir: home }, print)
    expect(printed.join('')).toContain('could not be taken back: No gateway answers')
    expect(existsSync(changesPath())).toBe(true)
  })
})
