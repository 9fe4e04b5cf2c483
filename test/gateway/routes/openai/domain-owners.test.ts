import { env } from 'cloudflare:workers'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eq } from 'drizzle-orm'
import type { ModelList } from '@copal/shared/wire/model-list.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import type { NewKeyRow } from '../../../../gateway/src/storage/db/queries/key-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { domains } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { models } from '../../../../gateway/src/storage/db/schema/masks.ts'
import { admin } from '../../support/doubles/simulated-node.ts'
import { createKey, errorOf, get, post, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { moveClock } from '../../support/doubles/stopped-clock.ts'
import { seedMasks } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)
let node: NodeDouble

beforeAll(async () => {
  node = await startNode('owners-1', [{ kind: 'answer', body: '{"ok":1}' }])
  await db.insert(domains).values([
    { name: 'secret', createdAt: 1, owner: 'acme' },
    { name: 'shared', createdAt: 1 },
  ])
})
beforeEach(() => sendHeartbeat(node, 'tiny'))

/** Sends a request that names a domain, and returns what the node was told of it. */
async function callNaming(domain: string | undefined, options: Partial<NewKeyRow>): Promise<ChatCall> {
  const { key } = await createKey({ sampling: 'always', ...options })
  const body = { model: 'tiny', messages: [{ role: 'user', content: 'Hello.' }] }
  const headers = domain === undefined ? {} : { 'x-copal-domain': domain }
  const response = await post(key, '/v1/chat/completions', body, { headers })
  expect(response.status).toBe(200)
  const call = JSON.parse((await node.calls()).at(-1)?.body ?? '') as ChatCall
  expect(response.headers.get('x-copal-domain')).toBe(call.domain)
  return call
}

describe('a request that names a domain of another tenant', () => {
  test('is answered and counted under the default domain of its key', async () => {
    expect(await callNaming('secret', { tenant: 'acme' })).toMatchObject({ domain: 'secret' })
    const own = { tenant: 'beta', defaultDomain: 'of-beta' }
    expect(await callNaming('secret', own)).toMatchObject({ domain: 'of-beta', sample: true })
    expect(await callNaming('shared', own)).toMatchObject({ domain: 'shared' })
  })

  test('is counted under "default" where its key’s default belongs to another tenant too', async () => {
    const given = { tenant: 'beta', defaultDomain: 'secret' }
    expect(await callNaming('secret', given)).toMatchObject({ domain: 'default', sample: true })
    expect(await callNaming(undefined, given)).toMatchObject({ domain: 'default' })
  })

  test('is not sampled into a domain that its key may not use', async () => {
    const limited = { tenant: 'beta', defaultDomain: 'secret', allowedDomains: ['secret'] }
    expect(await callNaming(undefined, limited)).toMatchObject({ domain: 'default', sample: false })
  })

  test('is counted under it again when the domain is shared', async () => {
    await db.update(domains).set({ owner: null }).where(eq(domains.name, 'secret'))
    const own = { tenant: 'beta', defaultDomain: 'of-beta' }
    expect(await callNaming('secret', own)).toMatchObject({ domain: 'of-beta' })
    moveClock(SETTINGS.COPAL_KEY_TRUST_MS.default)
    await sendHeartbeat(node, 'tiny')
    expect(await callNaming('secret', own)).toMatchObject({ domain: 'secret' })
    await db.update(domains).set({ owner: 'acme' }).where(eq(domains.name, 'secret'))
  })
})

test('the mask of a domain of another tenant is neither listed, served by its name nor named by errors', async () => {
  moveClock(SETTINGS.COPAL_KEY_TRUST_MS.default)
  const held = { weightSets: [0, 7].map((version) => ({ version, state: 'ready' as const, requests: 0 })) }
  await seedMasks('tiny', [7], { active: null })
  await db.update(models).set({ domainVersions: new Map([['secret', 7]]) })
  moveClock(SETTINGS.COPAL_KEY_TRUST_MS.default)
  await sendHeartbeat(node, 'tiny', held)
  const ask = async (tenant: string) => {
    const { key } = await createKey({ tenant })
    const { data } = await (await get('/v1/models', key)).json<ModelList>()
    const chat = (model: string) =>
      post(key, '/v1/chat/completions', { model, messages: [{ role: 'user', content: 'Hello.' }] })
    const response = await chat('tiny@mask-7')
    const refused = response.ok ? undefined : await errorOf(response)
    const { message } = await errorOf(await chat('tiny@mask-8'))
    return { listed: data.map(({ id }) => id), status: response.status, code: refused?.code, message }
  }
  expect(await ask('acme')).toEqual({
    listed: ['tiny', 'tiny@mask-7', 'tiny@dense'],
    status: 200,
    code: undefined,
    message: "No node holds 'tiny@mask-8'. Available now: 'tiny@mask-7', 'tiny@dense'.",
  })
  expect(await ask('beta')).toEqual({
    listed: ['tiny', 'tiny@dense'],
    status: 403,
    code: 'insufficient_permissions',
    message: "No node holds 'tiny@mask-8'. Available now: 'tiny@dense'.",
  })
})

test('the domain "default" cannot belong to one tenant', async () => {
  await ensureDomains(db, ['default'], 1)
  const refused = await admin('PUT', '/domains/default', { owner: 'acme' })
  expect([refused.status, (await errorOf(refused)).param]).toEqual([400, 'owner'])
  expect((await admin('PUT', '/domains/default', { owner: null })).status).toBe(200)
})
