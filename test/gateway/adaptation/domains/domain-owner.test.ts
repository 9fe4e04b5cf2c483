import { env } from 'cloudflare:workers'
import { createMessageBatch } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { consumeSamples } from '../../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { ensureTenant } from '../../../../gateway/src/storage/db/queries/tenant-queries.ts'
import { admin, adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { createKey, errorOf } from '../../support/requests/gateway-requests.ts'
import { storedTexts } from '../../support/state/reservoir-state.ts'

const db = openDatabase(env.DB)

async function consume(domain: string, texts: readonly { text: string; tenant?: string; keyId?: string }[]) {
  const messages = texts.map(({ text, tenant, keyId = 'key' }, index) => ({
    id: `m${index}`,
    timestamp: new Date(),
    attempts: 1,
    body: { requestId: `req ${text}`, keyId, tenant, model: 'tiny', domain, text },
  }))
  const batch = createMessageBatch('copal-samples', messages)
  await consumeSamples(testDeps(), batch)
}

test('samples of other tenants are not stored in a domain that has an owner, with one line in the log', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  await ensureTenant(db, 'owning', 1)
  const { id: keyId } = await createKey({ tenant: 'owning' })
  await consume('owned', [{ text: 'early', tenant: 'strange' }])
  expect(await adminJson('PUT', '/domains/owned', { owner: 'owning' })).toEqual({
    domain: 'owned',
    owner: 'owning',
  })
  await consume('owned', [
    { text: 'own', tenant: 'owning' },
    { text: 'own of an older gateway', keyId },
    { text: 'foreign', tenant: 'strange' },
    { text: 'foreign too', keyId: 'key_unknown' },
  ])
  expect(await storedTexts('owned')).toEqual(['early', 'own', 'own of an older gateway'])
  expect(warn.mock.calls).toEqual([['Dropped 2 samples whose domain belongs to another tenant.']])
  const { data } = await adminJson<{ data: DomainEntry[] }>('GET', '/domains')
  expect(data.find(({ name }) => name === 'owned')).toMatchObject({ owner: 'owning' })
  await adminJson('PUT', '/domains/owned', { owner: null })
  await consume('owned', [{ text: 'shared', tenant: 'strange' }])
  expect(await storedTexts('owned')).toContain('shared')
})

test('traffic that creates a domain does not make it its own, so nobody can occupy a name', async () => {
  await ensureTenant(db, 'first', 1)
  await consume('first-come', [{ text: 'a', tenant: 'first' }])
  await consume('first-come', [{ text: 'b', tenant: 'second' }])
  expect(await storedTexts('first-come')).toEqual(['a', 'b'])
})

test('an owner must be a tenant, and the domain must exist', async () => {
  await ensureDomains(db, ['without-owner'], 1)
  const unknown = await admin('PUT', '/domains/without-owner', { owner: 'nobody-here' })
  expect([unknown.status, (await errorOf(unknown)).param]).toEqual([404, 'owner'])
  expect((await admin('PUT', '/domains/without-owner', {})).status).toBe(400)
  expect((await admin('PUT', '/domains/no-such', { owner: null })).status).toBe(404)
})
