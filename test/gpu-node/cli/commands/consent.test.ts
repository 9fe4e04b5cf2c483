import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { recordedTerminal, type RecordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

const LIMITS = {
  requests_per_minute: null,
  tokens_per_minute: null,
  tokens_per_month: null,
  concurrent_requests: null,
}
const KEY = {
  id: 'key_1',
  name: 'notebook',
  tenant: 'acme',
  prefix: 'sk-copal-abcdef',
  scopes: ['inference'],
  default_domain: 'legal',
  discover_domains: false,
  allowed_domains: null,
  allowed_models: null,
  sampling: 'never',
  limits: LIMITS,
  created_at: '2026-11-01T00:00:00.000Z',
  expires_at: null,
  previous_valid_until: null,
}
const TENANT = {
  name: 'acme',
  keys: 2,
  limits: LIMITS,
  sampling: 'never',
  created_at: '2026-11-01T00:00:00.000Z',
}
const NOTHING: DeletedSamples = { domains: [], pending: [], kept: [] }

let server: Server
let env: Record<string, string>
let calls: { call: string; body: unknown }[] = []
let answers: Record<string, unknown> = {}

/** The gateway's side of HTTP. */
beforeAll(async () => {
  server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk) => (text += String(chunk)))
    request.on('end', () => {
      const call = `${request.method} ${request.url}`
      calls.push({ call, body: text === '' ? undefined : JSON.parse(text) })
      response.writeHead(answers[call] === undefined ? 500 : 200, { 'content-type': 'application/json' })
      response.end(JSON.stringify(answers[call] ?? {}))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  env = {
    COPAL_BASE_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    COPAL_ADMIN_KEY: 'a',
  }
})
afterAll(() => server.close())
beforeEach(() => {
  calls = []
  answers = {}
})

async function run(...args: string[]): Promise<RecordedTerminal> {
  const terminal = recordedTerminal({ env })
  expect(await runCommand(args, terminal)).toBe(0)
  return terminal
}

test('samples delete names what it deleted, what was made of it, what is pending and what statistics keep', async () => {
  const domain = { domain: 'legal', deleted: 3, deleted_frozen: 1, updates: ['up_1'] }
  answers['DELETE /admin/samples?key=key_1'] = {
    domains: [{ ...domain, masks: ['tiny@mask-2'] }],
    pending: [{ domain: 'mail', update: 'up_2' }],
    kept: [{ domain: 'legal', datasets: 2 }],
  } satisfies DeletedSamples
  const shown = (await run('samples', 'delete', '--key', 'key_1')).output()
  expect(shown.trimEnd().split('\n')).toEqual([
    'legal: deleted 3 texts and 1 frozen text; these masks were chosen with them and stay: tiny@mask-2',
    'mail: frozen texts are left, because update up_2 reads them. They are deleted when it has ended.',
    'legal: statistics of 2 datasets stay, whose texts have expired; whether such texts were among them is not known.' +
      ' To make them anew: copal domains rebuild legal',
  ])
  answers['DELETE /admin/samples?request=req_1'] = NOTHING
  expect((await run('samples', 'delete', '--request', 'req_1')).output()).toBe('No stored text is of it.\n')
  const terminal = recordedTerminal({ env })
  expect(await runCommand(['samples', 'delete'], terminal)).toBe(2)
  expect(calls).toHaveLength(2)
})

test('keys sampling and tenants set change the policy, and delete stored texts only if that is asked for', async () => {
  answers['PATCH /admin/keys/key_1'] = KEY
  answers['PUT /admin/tenants/acme'] = TENANT
  answers['DELETE /admin/samples?key=key_1'] = NOTHING
  answers['DELETE /admin/samples?tenant=acme'] = NOTHING
  const kept = await run('keys', 'sampling', 'key_1', 'never')
  expect(kept.output()).toBe('Sampling of key_1: never, within half a minute.\n')
  expect(kept.errors()).toContain('copal samples delete --key key_1')
  expect(calls).toEqual([{ call: 'PATCH /admin/keys/key_1', body: { sampling: 'never' } }])
  await run('keys', 'sampling', 'key_1', 'never', '--delete-texts')
  expect(calls.at(-1)?.call).toBe('DELETE /admin/samples?key=key_1')

  calls = []
  const tenant = await run('tenants', 'set', 'acme', '--sampling', 'never')
  expect(tenant.errors()).toContain('copal samples delete --tenant acme')
  expect(calls).toEqual([
    { call: 'PUT /admin/tenants/acme', body: expect.objectContaining({ sampling: 'never' }) as unknown },
  ])
  await run('tenants', 'set', 'acme', '--sampling', 'never', '--delete-texts')
  expect(calls.at(-1)?.call).toBe('DELETE /admin/samples?tenant=acme')
})

test('domains rebuild tells how much text there is and what starts the update', async () => {
  answers['POST /admin/domains/legal/rebuild'] = {
    domain: 'legal',
    datasets: 2,
    samples: 40,
    characters: 20_000,
    models: [
      { model: 'tiny', starts: 'by_operator' },
      { model: 'other', starts: 'by_trigger' },
    ],
  }
  const shown = (await run('domains', 'rebuild', 'legal')).output()
  for (const part of [
    '2 datasets',
    '40 texts',
    'copal update legal --model tiny',
    'other',
    'a trigger starts',
  ])
    expect(shown).toContain(part)
})

test('domains set names the owner of a domain, or shares it', async () => {
  answers['PUT /admin/domains/legal'] = { domain: 'legal', owner: 'acme' }
  expect((await run('domains', 'set', 'legal', '--owner', 'acme')).output()).toContain(
    'legal belongs to acme.',
  )
  answers['PUT /admin/domains/legal'] = { domain: 'legal', owner: null }
  expect((await run('domains', 'set', 'legal', '--shared')).output()).toBe(
    'legal is shared by every tenant.\n',
  )
  expect(calls.map(({ body }) => body)).toEqual([{ owner: 'acme' }, { owner: null }])
  expect(await runCommand(['domains', 'set', 'legal'], recordedTerminal({ env }))).toBe(2)
  expect(calls).toHaveLength(2)
})
