import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { listTombstones } from '../../../../gateway/src/storage/db/queries/tombstone-queries.ts'
import { UNASSIGNED } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { storedTexts } from '../../support/state/reservoir-state.ts'

const db = openDatabase(env.DB)
const DOMAINS = ['everywhere-a', 'everywhere-b', UNASSIGNED]

async function offer(domain: string, text: string, requestId: string, keyId: string, tenant: string) {
  if (domain !== UNASSIGNED) await ensureDomains(db, [domain], 0)
  await env.RESERVOIR.get(env.RESERVOIR.idFromName(domain)).offer([
    offeredSample(text, { requestId, keyId, tenant }),
  ])
}

test('texts of a request, a key or a tenant are deleted in all domains and where they wait for one', async () => {
  for (const domain of DOMAINS) {
    await offer(domain, `mine ${domain} alpha`, 'req_1', 'key_mine', 'mine')
    await offer(domain, `second ${domain} beta`, 'req_2', 'key_second', 'mine')
    await offer(domain, `theirs ${domain} gamma`, 'req_3', 'key_theirs', 'theirs')
  }
  await adminJson('PUT', '/tenants/mine')
  const own = await adminJson<CreatedKey>('POST', '/keys', { name: 'a', tenant: 'mine', scopes: ['admin'] })
  const remove = async (query: string) => {
    const response = await admin('DELETE', `/samples?${query}`, undefined, own.key)
    const { domains } = await response.json<DeletedSamples>()
    return domains.reduce((sum, { deleted }) => sum + deleted, 0)
  }
  expect(await remove('request=req_3')).toBe(0)
  expect(await remove('key=key_theirs')).toBe(0)
  const foreign = await admin('DELETE', '/samples?tenant=theirs', undefined, own.key)
  expect([foreign.status, (await errorOf(foreign)).param]).toEqual([403, 'tenant'])
  expect(await remove('request=req_1')).toBe(3)
  expect(await remove('tenant=mine')).toBe(3)
  for (const domain of DOMAINS) expect(await storedTexts(domain)).toEqual([`theirs ${domain} gamma`])
  const tombstones = await listTombstones(db, 0)
  expect(tombstones).toContainEqual(
    expect.objectContaining({ domain: null, requestId: 'req_1', tenant: 'mine' }),
  )
  expect(await adminJson<DeletedSamples>('DELETE', '/samples?key=key_theirs')).toMatchObject({
    domains: DOMAINS.map((domain) => ({ domain, deleted: 1, deleted_frozen: 0, updates: [], masks: [] })),
    pending: [],
  })
})

test('a deletion that names nothing, or a misspelt field, deletes nothing', async () => {
  for (const query of ['', '?keyid=x', '?key='])
    expect((await admin('DELETE', `/samples${query}`)).status).toBe(400)
})
