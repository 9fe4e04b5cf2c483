/** Tests that deleting or rebuilding a domain makes no more calls than a request may, and that repeating it goes on. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { beforeEach, expect, test } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { EVENT_CALLS } from '../../../../gateway/src/calls/call-budget.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listBatchesOf } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { insertDataset } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { ensureDomains, findDomain } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { listStatistics } from '../../../../gateway/src/storage/db/queries/statistics-queries.ts'
import { errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'
import { countCalls } from '../../support/state/counted-calls.ts'

const db = openDatabase(env.DB)
const counted = countCalls(env)
const DOMAIN = 'summed-often'
const DATASET = 'd'.repeat(64)

/** Calls the admin API. Returns the response, and the calls that it took. */
async function call(method: string, path: string) {
  counted.take()
  const ctx = createExecutionContext()
  const headers = { authorization: `Bearer ${TEST_ADMIN_KEY}` }
  const request = new Request(`${ORIGIN}/admin/domains/${DOMAIN}${path}`, { method, headers })
  const response = await createApp().fetch(request, counted.bindings, ctx)
  await waitOnExecutionContext(ctx)
  return { response, calls: counted.take().all }
}

beforeEach(async () => {
  await ensureDomains(db, [DOMAIN], 1)
  await insertDataset(db, { sha256: DATASET, domain: DOMAIN, samples: 1, bytes: 1, createdAt: 1 })
  await env.DB.prepare(
    `insert into batches (model, dataset_sha256, update_id, domain, state, tokens, created_at)
       values ('sums', ?1, 'old', ?2, 'counted', 1, 1)`,
  )
    .bind(DATASET, DOMAIN)
    .run()
  // More than one call can delete.
  await env.DB.prepare(
    `insert into statistics (model, artifact, domain, datasets, bytes, created_at)
       with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 700)
       select 'sums', printf('%064d', n), ?1, json_array(?2), 1, 1 from numbers`,
  )
    .bind(DOMAIN, DATASET)
    .run()
})

test.each([
  ['the deletion of', 'DELETE', '', { isKnown: false, batches: [] }],
  ['rebuilding', 'POST', '/rebuild', { isKnown: true, batches: ['rebuilt'] }],
])('%s a domain is told to go on where its calls end', async (what, method, path, done) => {
  const first = await call(method, path)
  expect(first.calls).toBeGreaterThan(EVENT_CALLS / 2)
  expect(first.calls).toBeLessThan(EVENT_CALLS + 50)
  expect([first.response.status, (await errorOf(first.response)).message]).toEqual([
    409,
    `One call cannot finish ${what} '${DOMAIN}'. It keeps what it has done: repeat the call to continue.`,
  ])
  const left = (await listStatistics(db, 'sums')).length
  expect(left).toBeGreaterThan(0)
  expect(left).toBeLessThan(700)
  expect(await findDomain(db, DOMAIN)).toBeDefined()
  const second = await call(method, path)
  expect([second.response.status, await listStatistics(db, 'sums')]).toEqual([200, []])
  const batches = (await listBatchesOf(db, 'old')).map(({ state }) => state)
  expect({ isKnown: (await findDomain(db, DOMAIN)) !== undefined, batches }).toEqual(done)
})
