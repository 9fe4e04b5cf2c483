/** Tests that an operator sees the newest texts of a domain and those that are set aside, and keeps or drops these. */
import { createExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { ReviewEntry } from '@copal/shared/wire/admin-review.ts'
import type { SampleEntry } from '@copal/shared/wire/admin-samples.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'

test('outliers are listed with key, loss and beginning, kept or dropped once, and unknown ones are not found', async () => {
  await ensureDomains(openDatabase(env.DB), ['reviewed'], 1)
  const reservoir = env.RESERVOIR.get(env.RESERVOIR.idFromName('reviewed'))
  await reservoir.offer([
    ...Array.from({ length: 30 }, (_, index) =>
      offeredSample(`ordinary ${index}`, { side: 'pool', nllMean: 3 + (index % 10) / 10 }),
    ),
    ...['one', 'two'].map((name) =>
      offeredSample(`random ${name}`, { side: 'pool', keyId: 'spoiler', nllMean: 12 }),
    ),
  ])
  const path = '/domains/reviewed/review'
  const list = async () => (await adminJson<{ data: ReviewEntry[] }>('GET', path)).data
  const { data: domains } = await adminJson<{ data: DomainEntry[] }>('GET', '/domains')
  expect(domains.find(({ name }) => name === 'reviewed')?.review_samples).toBe(2)
  const entries = await list()
  expect(entries).toHaveLength(2)
  expect(entries[0]).toMatchObject({ key: 'spoiler', nll: 12, side: 'pool', characters: 10 })
  const [kept, dropped] = entries
  await adminJson('POST', `${path}/${kept?.id}/keep`)
  await adminJson('POST', `${path}/${dropped?.id}/drop`)
  expect(await list()).toEqual([])
  expect(await reservoir.stats()).toMatchObject({ samples: 31, reviewSamples: 0 })
  expect((await admin('POST', `${path}/${dropped?.id}/drop`)).status).toBe(404)
  expect((await admin('GET', '/domains/unknown-one/review')).status).toBe(404)
})

test('the newest texts are listed with their beginnings, which a setting shortens, and without those set aside', async () => {
  await ensureDomains(openDatabase(env.DB), ['listed'], 1)
  const reservoir = env.RESERVOIR.get(env.RESERVOIR.idFromName('listed'))
  const atMs = Date.now()
  await reservoir.offer([
    ...Array.from({ length: 30 }, (_, index) =>
      offeredSample(`ordinary ${index}`, {
        side: 'pool',
        atMs: atMs - 1_000 * index,
        nllMean: 3 + (index % 10) / 10,
      }),
    ),
    offeredSample('random', { side: 'pool', keyId: 'spoiler', atMs: atMs + 1, nllMean: 12 }),
  ])
  const list = async (settings: { COPAL_PREVIEW_CHARACTERS?: string } = {}) => {
    const headers = { authorization: `Bearer ${TEST_ADMIN_KEY}` }
    const response = await createApp().request(
      '/admin/domains/listed/samples',
      { headers },
      { ...env, ...settings },
      createExecutionContext(),
    )
    return (await response.json<{ data: SampleEntry[] }>()).data
  }
  const entries = await list()
  expect(entries).toHaveLength(20)
  expect(entries.slice(0, 2).map(({ preview }) => preview)).toEqual(['ordinary 0', 'ordinary 1'])
  expect(entries[0]).toMatchObject({
    side: 'pool',
    taken: false,
    characters: 10,
    last_seen_at: new Date(atMs).toISOString(),
  })
  expect((await list({ COPAL_PREVIEW_CHARACTERS: '4' }))[0]?.preview).toBe('ordi')
  expect(new Set((await list({ COPAL_PREVIEW_CHARACTERS: '0' })).map(({ preview }) => preview))).toEqual(
    new Set(['']),
  )
  expect((await admin('GET', '/domains/unknown-one/samples')).status).toBe(404)
})
