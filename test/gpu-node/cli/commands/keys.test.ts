import { beforeEach, expect, test } from 'vitest'
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import {
  accountChanges,
  createKey,
  rotateKey,
  type CreatedKey,
  type KeyEntry,
} from '@copal/shared/wire/admin-keys.ts'
import { copal, type ReceivedCall } from '../../../support/doubles/copal-command.ts'

const ENTRY: KeyEntry = {
  id: `key_${'0'.repeat(32)}`,
  name: 'notebook',
  tenant: 'acme',
  prefix: 'sk-copal-abcdef',
  scopes: ['inference'],
  default_domain: 'legal',
  discover_domains: false,
  allowed_domains: null,
  allowed_models: ['tiny'],
  sampling: 'opt_in',
  limits: {
    requests_per_minute: 60,
    tokens_per_minute: null,
    tokens_per_month: 1_000_000,
    concurrent_requests: null,
  },
  created_at: new Date(Date.now() - 3 * 3_600_000).toISOString(),
  expires_at: new Date(Date.now() + 90.5 * 24 * 3_600_000).toISOString(),
  previous_valid_until: null,
}

let calls: ReceivedCall[] = []
/** The response to each call; others break off. */
let answers: Record<string, object> = {}
beforeEach(() => {
  calls = []
})

async function run(...args: string[]) {
  const result = await copal((call) => answers[call], args)
  expect(result.code).toBe(0)
  calls.push(...result.calls)
  return result
}

test('create sends its options and prints only the key', async () => {
  const created: CreatedKey = { ...ENTRY, key: 'sk-copal-abcdefgh' }
  answers = { 'POST /admin/keys': created }
  const options =
    '--tenant acme --scopes inference,admin --domain legal --domains legal,code --models tiny --expires-in 2h'
  const printed = await run('keys', 'create', 'notebook', ...options.split(' '))
  expect(printed.stdout).toBe('sk-copal-abcdefgh\n')
  const sent = createKey.parse(calls[0]?.body)
  expect(sent).toMatchObject({
    name: 'notebook',
    tenant: 'acme',
    scopes: ['admin', 'inference'],
    default_domain: 'legal',
    allowed_domains: ['code', 'legal'],
    allowed_models: ['tiny'],
  })
  expect(Math.abs(Date.parse(sent.expires_at ?? '') - Date.now() - 7_200_000)).toBeLessThan(60_000)
  expect(JSON.parse((await run('keys', 'create', 'notebook', '--json')).stdout)).toEqual(created)
  expect(createKey.parse(calls.at(-1)?.body)).toEqual({
    name: 'notebook',
    scopes: ['inference'],
    sampling: 'opt_in',
    limits: {},
  })
  await run('keys', 'create', 'notebook', '--domain', 'legal', '--discover')
  expect(calls.at(-1)?.body).toMatchObject({ default_domain: 'legal', discover_domains: true })
  await run('keys', 'create', 'notebook', '--no-discover')
  expect(calls.at(-1)?.body).toMatchObject({ discover_domains: false })
})

test('an unknown model gives a warning, and the key is created', async () => {
  const create = (names: string) => run('keys', 'create', 'notebook', '--models', names)
  const made = { 'POST /admin/keys': { ...ENTRY, key: 'sk-copal-abcdefgh' } }
  const model = {
    active_version: 0,
    previous_version: null,
    sparsity: 0,
    context_length: 512,
    converged: true,
    canary: null,
    shadow: null,
    watch: null,
  }
  const models = ['tiny', 'large-model'].map((id) => ({ ...model, id }))
  const status: StatusReport = { version: '1', models, nodes: [], updates_running: 0 }
  answers = { ...made, 'GET /admin/status': status }
  const printed = await create('tiny,tinny,other')
  expect(printed.stdout).toBe('sk-copal-abcdefgh\n')
  expect(printed.stderr).toBe(
    "Warning: the gateway does not know the model 'tinny'. Did you mean 'tiny'? The key may use it once a node serves it.\n" +
      "Warning: the gateway does not know the model 'other'. Known models: tiny, large-model. The key may use it once a node serves it.\n",
  )
  expect((await create('tiny')).stderr).toBe('')
  // As to a tenant's administrator, or to nobody at all.
  answers = made
  expect((await create('other')).stderr).toBe('')
})

test('list says of keys without a domain of their own that domains are found', async () => {
  const keyOf = (domain: string, found: boolean) => ({
    ...ENTRY,
    default_domain: domain,
    discover_domains: found,
  })
  answers = {
    'GET /admin/keys': { data: [keyOf('default', true), keyOf('legal', true), keyOf('legal', false)] },
  }
  const list = () => copal((call) => answers[call], ['keys', 'list'], { piped: true })
  const [table = '', explanation] = (await list()).stdout.trim().split('\n\n')
  const [, ...rows] = table.split('\n')
  expect(rows.map((row) => row.split(/ {2,}/)[5])).toEqual(['found', 'found, else legal', 'legal'])
  expect(explanation).toMatch(/^DOMAIN 'found': a request that names no domain gets one by its content;/)
  answers = { 'GET /admin/keys': { data: [keyOf('legal', false)] } }
  expect((await list()).stdout).not.toContain("'found'")
})

test('list shows a table that fits the terminal, of all keys or of one tenant', async () => {
  answers = { 'GET /admin/keys': { data: [ENTRY] }, 'GET /admin/keys?tenant=new': { data: [] } }
  const lines = (await run('keys', 'list')).stdout.split('\n')
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80)
  const text = lines.join('\n')
  for (const shown of ['notebook', 'acme', 'sk-copal-abcdef', 'legal', 'tiny', '3 h ago', 'in 90 d'])
    expect(text).toContain(shown)
  expect((await run('keys', 'list', '--tenant', 'new')).stdout).toBe(
    "The tenant 'new' has no keys. 'npx copal tenants list' lists the tenants.\n",
  )
  expect(JSON.parse((await run('keys', 'list', '--json')).stdout)).toEqual([ENTRY])
})

test('rotate prints the new key to standard output and the validity of the old one to standard error', async () => {
  const rotated: CreatedKey = {
    ...ENTRY,
    key: 'sk-copal-new',
    previous_valid_until: '2099-01-01T00:00:00.000Z',
  }
  answers = { [`POST /admin/keys/${ENTRY.id}/rotate`]: rotated }
  const printed = await run('keys', 'rotate', ENTRY.id)
  expect(printed.stdout).toBe('sk-copal-new\n')
  expect(printed.stderr).toBe('The old key is valid until 2099-01-01T00:00:00.000Z.\n')
  await run('keys', 'rotate', ENTRY.id, '--grace', '30m')
  expect(calls.map(({ body }) => rotateKey.parse(body).grace_seconds)).toEqual([86_400, 1_800])
})

test('revoke, limit and the tenants commands print what they did', async () => {
  const tenant = {
    name: 'acme',
    keys: 2,
    sampling: 'always',
    limits: ENTRY.limits,
    created_at: ENTRY.created_at,
  }
  answers = {
    [`DELETE /admin/keys/${ENTRY.id}`]: { id: ENTRY.id, revoked: true },
    'GET /admin/tenants': { data: [tenant] },
    'PUT /admin/tenants/acme': tenant,
    [`PATCH /admin/keys/${ENTRY.id}`]: ENTRY,
  }
  expect((await run('keys', 'revoke', ENTRY.id, '--yes')).stdout).toBe(`Revoked ${ENTRY.id}.\n`)
  expect((await run('tenants', 'list')).stdout).toMatch(
    /TENANT +KEYS +LIMITS +SAMPLING +CREATED\nacme +2 +60 req\/min, 1,000,000 tok\/month +always +3 h ago/,
  )
  expect((await run('tenants', 'set', 'acme')).stdout).toContain('acme')
  const limits = '--requests-per-minute 60 --tokens-per-month none --concurrent 4'.split(' ')
  expect((await run('keys', 'limit', ENTRY.id, ...limits)).stdout).toBe(
    `Limits of ${ENTRY.id}: 60 req/min, 1,000,000 tok/month.\n`,
  )
  expect(accountChanges.parse(calls.at(-2)?.body)).toEqual({ limits: {} })
  expect(accountChanges.parse(calls.at(-1)?.body)).toEqual({
    limits: { requests_per_minute: 60, tokens_per_month: null, concurrent_requests: 4 },
  })
})

test('the response cache of a tenant is shown in a line and can be cleared', async () => {
  answers = {
    'GET /admin/tenants/acme/cache': { tenant: 'acme', answers: 1_200, bytes: 3e6, hits: 30, misses: 10 },
    'DELETE /admin/tenants/acme/cache': { tenant: 'acme', deleted: 1_200 },
  }
  expect((await run('tenants', 'cache', 'acme')).stdout).toMatch(
    /^1,200 cached responses, .*MB?\. 30 of 40 lookups found a response \(75.*%\)\.\n$/,
  )
  expect((await run('tenants', 'cache', 'acme', '--clear')).stdout).toBe('Deleted 1,200 cached responses.\n')
})
