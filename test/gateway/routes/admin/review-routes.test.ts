/** Tests that an operator sees the texts of a domain that are set aside, and keeps or drops them. */
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { DomainEntry } from '@copal/shared/wire/admin.ts'
import type { ReviewEntry } from '@copal/shared/wire/admin-review.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
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
