/** Tests that deleting or rebuilding a domain makes no more calls than a request may, and that the rest is not lost. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { beforeEach, expect, test } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { finishDeletions } from '../../../../gateway/src/adaptation/domains/sample-deletion.ts'
import { createCallBudget, EVENT_CALLS } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { insertDataset } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import {
  ensureDomains,
  findDomain,
  forgetDomain,
} from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import {
  insertHoldout,
  listLatestHoldouts,
} from '../../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { listStatistics } from '../../../../gateway/src/storage/db/queries/statistics-queries.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'
import { errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'
import { countCalls } from '../../support/state/counted-calls.ts'
import { batchRowsOf, pendingAuditRows } from '../../support/state/rows-of.ts'

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

/** Expects that a call has deleted some statistics, but not all. */
async function expectSomeLeft(): Promise<void> {
  const left = (await listStatistics(db, 'sums')).length
  expect(left).toBeGreaterThan(0)
  expect(left).toBeLessThan(700)
  expect(await findDomain(db, DOMAIN)).toBeDefined()
}

beforeEach(async () => {
  await forgetDomain(db, DOMAIN)
  await ensureDomains(db, [DOMAIN], 1)
  await insertDataset(db, { sha256: DATASET, domain: DOMAIN, samples: 1, bytes: 1, createdAt: 1 })
  await env.DB.prepare(
    `insert into batches (model, dataset_sha256, update_id, domain, state, tokens, created_at)
       values ('sums', ?1, 'old', ?2, 'counted', 1, 1)`,
  )
    .bind(DATASET, DOMAIN)
    .run()
  await insertHoldout(db, {
    domain: DOMAIN,
    version: 1,
    sha256: DATASET,
    samples: 1,
    characters: 1,
    createdAt: 1,
  })
  // More than one call can delete.
  await env.DB.prepare(
    `insert into statistics (model, artifact, domain, datasets, bytes, created_at)
       with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 700)
       select 'sums', printf('%064d', n), ?1, json_array(?2), 1, 1 from numbers`,
  )
    .bind(DOMAIN, DATASET)
    .run()
})

test('rebuilding a domain is told to go on where its calls end', async () => {
  const first = await call('POST', '/rebuild')
  expect(first.calls).toBeGreaterThan(EVENT_CALLS / 2)
  expect(first.calls).toBeLessThan(EVENT_CALLS + 50)
  expect([first.response.status, (await errorOf(first.response)).message]).toEqual([
    409,
    `One call cannot finish rebuilding '${DOMAIN}'. It keeps what it has done: repeat the call to continue.`,
  ])
  await expectSomeLeft()
  const second = await call('POST', '/rebuild')
  expect([second.response.status, await listStatistics(db, 'sums')]).toEqual([200, []])
  expect(await batchRowsOf('old')).toMatchObject([{ state: 'rebuilt' }])
  expect(await findDomain(db, DOMAIN)).toBeDefined()
})

test('what one call cannot delete of a domain, the cron task deletes', async () => {
  const { response, calls } = await call('DELETE', '')
  expect(calls).toBeGreaterThan(EVENT_CALLS / 2)
  expect(calls).toBeLessThan(EVENT_CALLS + 50)
  expect([response.status, await response.json()]).toEqual([202, { domain: DOMAIN, deleted: false }])
  await expectSomeLeft()
  // Updates of other domains may begin meanwhile, and must not read what is deleted.
  expect([await listCounted(db, 'sums'), await listLatestHoldouts(db)]).toEqual([[], []])
  for (let run = 0; run < 20 && (await findDomain(db, DOMAIN)); run += 1)
    await finishDeletions(meterDeps(testDeps(), createCallBudget(60))).catch(() => undefined)
  expect([await listStatistics(db, 'sums'), await batchRowsOf('old')]).toEqual([[], []])
  expect(await pendingAuditRows()).toContainEqual(
    expect.objectContaining({ actor: 'copal', action: 'domain.deletion_finished', target: DOMAIN }),
  )
})
