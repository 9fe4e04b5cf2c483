import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { AuditPage } from '@copal/shared/wire/admin-audit.ts'
import type { RebuiltDomain } from '@copal/shared/wire/admin-domains.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { rebuildDomain } from '../../../../gateway/src/adaptation/domains/rebuild-domain.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listCounted } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import {
  insertStatistics,
  listStatistics,
} from '../../../../gateway/src/storage/db/queries/statistics-queries.ts'
import { admin, adminJson, importTexts, startUpdate, testDeps } from '../../support/doubles/simulated-node.ts'
import { calibrationOf, newNode, runUpdate, textsOf } from '../../support/doubles/whole-updates.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'
import { seedUpdate, setPolicy } from '../../support/state/seed-masks.ts'
import { batchRowsOf } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)
const rebuild = (domain: string) => adminJson<RebuiltDomain>('POST', `/domains/${domain}/rebuild`)

test('after a rebuild the next update calibrates the domain on retained texts alone', async () => {
  const node = await newNode('anew')
  // No node describes texts here, which the update would wait for.
  await setPolicy('anew', { influence: { outlier_deviations: null } })
  await importTexts('anew-a', 40, 'anew lost')
  await importTexts('anew-b')
  const { id } = await startUpdate('anew', ['anew-a', 'anew-b'], { samples: 64 })
  await node.finish(id)
  const [lost = '', other = ''] = (await calibrationOf(id)).datasets.map(({ sha256 }) => sha256)
  const sum = { model: 'anew', bytes: 1, createdAt: 1 }
  await insertStatistics(db, { ...sum, domain: 'anew-a', artifact: '1'.repeat(64), datasets: [lost] })
  await insertStatistics(db, { ...sum, domain: 'anew-b', artifact: '2'.repeat(64), datasets: [other] })
  // Of what it was calibrated on, the reservoir has nothing any more but these texts.
  await adminJson('DELETE', '/domains/anew-a/samples')
  await importTexts('anew-a', 60, 'anew kept')
  const taken = await runUpdate(node, 'anew', ['anew-a'])
  const before = (await listCounted(db, 'anew')).map(({ sha256 }) => sha256)
  expect(before).toHaveLength(3)

  const rebuilt = await rebuild('anew-a')
  expect(rebuilt).toMatchObject({
    domain: 'anew-a',
    datasets: 2,
    models: [{ model: 'anew', starts: 'by_trigger' }],
  })
  expect(rebuilt.samples).toBeGreaterThan(20)
  expect((await listCounted(db, 'anew')).map(({ sha256 }) => sha256)).toEqual([other])
  expect((await listStatistics(db, 'anew')).map(({ artifact }) => artifact)).toEqual(['2'.repeat(64)])
  expect(await rebuild('anew-a')).toEqual(rebuilt)

  const next = await startUpdate('anew', ['anew-a'], { samples: 64 })
  await node.finish(next.id)
  const job = await calibrationOf(next.id)
  expect(job.accumulated.map(({ sha256 }) => sha256)).toEqual([other])
  const texts = await textsOf(job.datasets[0]?.sha256)
  expect(texts.every((text) => text.startsWith('anew kept'))).toBe(true)
  // Those that an update had taken count again.
  const again = await textsOf(taken.datasets[0]?.sha256)
  expect(again.length).toBeGreaterThan(0)
  expect(texts).toEqual(expect.arrayContaining(again))

  // A roll-back does not bring back what was rebuilt.
  await adminJson('POST', '/rollback', { model: 'anew', version: 2 })
  expect((await listCounted(db, 'anew')).map(({ sha256 }) => sha256)).toEqual([other])
  expect(await batchRowsOf(id)).toMatchObject([{ state: 'rebuilt' }, { state: 'counted' }])
  const { data } = await adminJson<AuditPage>('GET', '/audit')
  expect(data).toContainEqual(
    expect.objectContaining({ action: 'POST /admin/domains/:domain/rebuild', target: 'anew-a' }),
  )
})

test.each([
  ['calibrating', 'other', 409],
  ['canary', 'busy', 409],
  ['canary', 'other', 200],
] as const)('a rebuild while an update is %s, of the domain %s: %i', async (state, updated, status) => {
  await ensureDomains(db, ['busy'], 1)
  const id = await seedUpdate(`busy-${state}-${updated}`, 1, { state, domains: [updated] })
  const response = await admin('POST', '/domains/busy/rebuild')
  const message = response.ok ? '' : (await errorOf(response)).message
  const named = status === 409 ? `Update '${id}' is ${UPDATE_STATES[state]}` : ''
  expect([response.status, message.slice(0, named.length)]).toEqual([status, named])
  await env.DB.prepare("update updates set state = 'failed', finished_at = 1 where id = ?").bind(id).run()
})

test('a domain with more batches than a request may make calls can be rebuilt', async () => {
  await ensureDomains(db, ['large'], 1)
  const count = 1_200
  const numbers = `WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${count})`
  await env.DB.exec(
    `INSERT INTO batches (model, dataset_sha256, update_id, domain, state, created_at) ${numbers} ` +
      `SELECT 'large', 'dataset-' || n, 'update-' || n, 'large', 'counted', n FROM numbers`,
  )
  const deps = testDeps()
  let calls = 0
  const reservoir = (name: string) =>
    new Proxy(deps.reservoir(name), {
      get(object, method) {
        calls += 1
        return Reflect.get(object, method, object) as unknown
      },
    })
  expect(await rebuildDomain({ ...deps, reservoir }, 'large')).toMatchObject({ datasets: count })
  expect(calls).toBeLessThan(10)
})

test('a domain that never had a text cannot be rebuilt', async () => {
  expect((await admin('POST', '/domains/no-such/rebuild')).status).toBe(404)
})
