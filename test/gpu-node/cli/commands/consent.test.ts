import { beforeEach, expect, test } from 'vitest'
import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { copal, type ReceivedCall } from '../../../support/doubles/copal-command.ts'

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

let calls: ReceivedCall[] = []
let answers: Record<string, object> = {}
beforeEach(() => {
  calls = []
  answers = {}
})

async function run(...args: string[]) {
  const result = await copal((call) => answers[call], args)
  calls.push(...result.calls)
  return result
}

/** Runs a command that must succeed. */
async function succeed(...args: string[]) {
  const result = await run(...args)
  expect(result.code).toBe(0)
  return result
}

test('samples delete names what it deleted, what was made of it, what is pending and what statistics keep', async () => {
  const domain = { domain: 'legal', deleted: 3, deleted_frozen: 1, updates: ['up_1'] }
  answers['DELETE /admin/samples?key=key_1'] = {
    domains: [{ ...domain, masks: ['tiny@mask-2'] }],
    pending: [
      { domain: 'mail', update: 'up_2' },
      { domain: 'news', update: null },
    ],
    kept: [{ domain: 'legal', datasets: 2 }],
  } satisfies DeletedSamples
  const shown = (await succeed('samples', 'delete', '--key', 'key_1', '--yes')).stdout
  expect(shown.trimEnd().split('\n')).toEqual([
    'legal: deleted 3 texts and 1 frozen text; these masks were chosen with them and stay: tiny@mask-2',
    'mail: frozen texts may be left, because update up_2 reads them. They are deleted when it has ended.',
    'news: further texts are looked through within the next minutes.',
    'legal: statistics of 2 datasets stay, whose texts have expired; whether such texts were among them is not known.' +
      ' To make them anew: npx copal domains rebuild legal',
  ])
  answers['DELETE /admin/samples?request=req_1'] = NOTHING
  expect((await succeed('samples', 'delete', '--request', 'req_1', '-y')).stdout).toBe(
    "No text of request 'req_1' is stored.\n",
  )
  expect((await run('samples', 'delete')).code).toBe(2)
  expect(calls).toHaveLength(2)
})

test('keys sampling and tenants set change the policy, and delete stored texts only if that is asked for', async () => {
  answers['PATCH /admin/keys/key_1'] = KEY
  answers['PUT /admin/tenants/acme'] = TENANT
  answers['DELETE /admin/samples?key=key_1'] = NOTHING
  answers['DELETE /admin/samples?tenant=acme'] = NOTHING
  const kept = await succeed('keys', 'sampling', 'key_1', 'never')
  expect(kept.stdout).toBe('Sampling of key_1: never, within half a minute.\n')
  expect(kept.stderr).toContain('npx copal samples delete --key key_1')
  expect(calls).toEqual([{ call: 'PATCH /admin/keys/key_1', body: { sampling: 'never' } }])
  await succeed('keys', 'sampling', 'key_1', 'never', '--delete-texts', '--yes')
  expect(calls.at(-1)?.call).toBe('DELETE /admin/samples?key=key_1')

  calls = []
  const tenant = await succeed('tenants', 'set', 'acme', '--sampling', 'never')
  expect(tenant.stderr).toContain('npx copal samples delete --tenant acme')
  expect(calls).toEqual([
    { call: 'PUT /admin/tenants/acme', body: expect.objectContaining({ sampling: 'never' }) as unknown },
  ])
  await succeed('tenants', 'set', 'acme', '--sampling', 'never', '--delete-texts', '--yes')
  expect(calls.at(-1)?.call).toBe('DELETE /admin/samples?tenant=acme')

  calls = []
  await succeed('tenants', 'set', 'acme', '--delete-texts', '--yes')
  expect(calls.map(({ call }) => call)).toEqual([
    'PUT /admin/tenants/acme',
    'DELETE /admin/samples?tenant=acme',
  ])
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
  const shown = (await succeed('domains', 'rebuild', 'legal', '--yes')).stdout
  for (const part of [
    '2 datasets',
    '40 texts',
    'npx copal update legal --model tiny',
    'other',
    'a trigger starts',
  ])
    expect(shown).toContain(part)
  answers['POST /admin/domains/legal/rebuild'] = {
    domain: 'legal',
    datasets: 1,
    samples: 1,
    characters: 500,
    models: [],
  }
  expect((await succeed('domains', 'rebuild', 'legal', '--yes')).stdout).toBe(
    'legal: 1 dataset no longer counts; 1 text (500 characters) is retained.\n',
  )
})

test('domains set names the owner of a domain, or shares it', async () => {
  answers['PUT /admin/domains/legal'] = { domain: 'legal', owner: 'acme' }
  expect((await succeed('domains', 'set', 'legal', '--owner', 'acme')).stdout).toContain(
    'legal belongs to acme.',
  )
  answers['PUT /admin/domains/legal'] = { domain: 'legal', owner: null }
  expect((await succeed('domains', 'set', 'legal', '--shared')).stdout).toBe(
    'legal is shared by every tenant.\n',
  )
  expect(calls.map(({ body }) => body)).toEqual([{ owner: 'acme' }, { owner: null }])
  expect((await run('domains', 'set', 'legal')).code).toBe(2)
  expect(calls).toHaveLength(2)
})
