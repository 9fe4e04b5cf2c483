/** Tests that what runs every few seconds or minutes reads few rows of D1 however many updates there were. */
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { advanceDetectors } from '../../../gateway/src/adaptation/drift/detectors/advance-detectors.ts'
import { acceptHeartbeat } from '../../../gateway/src/fleet/registration/accept-heartbeat.ts'
import { expireDatasets } from '../../../gateway/src/storage/artifacts/expire-datasets.ts'
import { sweepArtifacts } from '../../../gateway/src/storage/artifacts/sweep-artifacts.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { listRecentDecisions } from '../../../gateway/src/storage/db/queries/decision-queries.ts'
import { keptMasks } from '../../../gateway/src/storage/db/queries/sweep-queries.ts'
import { ensureDomains, findOwnedDomains } from '../../../gateway/src/storage/db/queries/domain-queries.ts'
import { listTombstones } from '../../../gateway/src/storage/db/queries/tombstone-queries.ts'
import { findLastUpdate, listUpdates } from '../../../gateway/src/storage/db/queries/update-queries.ts'
import { isDiscovering } from '../../../gateway/src/storage/db/queries/discovery-queries.ts'
import { pepperStoredKeys } from '../../../gateway/src/keys/pepper-stored-keys.ts'
import { overviewReport } from '../../../gateway/src/dashboard/overview.ts'
import { runTriggers } from '../../../gateway/src/adaptation/triggers/run-triggers.ts'
import { collectMetrics } from '../../../gateway/src/usage/metrics/collect-metrics.ts'
import { heartbeatOf } from '../../support/doubles/heartbeat.ts'
import { testDeps } from '../support/doubles/simulated-node.ts'
import { sendHeartbeat } from '../support/requests/gateway-requests.ts'
import { countRows } from '../support/state/counted-rows.ts'

const MODEL = 'often-updated'
const NODE = { id: 'node-1', url: 'http://127.0.0.1:9' }
/** Two months with 17 a day. */
const UPDATES = 1_000
const HOURS = 2

/** Stores what updates leave: each was promoted, and has four jobs, three decisions and the texts of four domains. */
async function storeUpdates(): Promise<void> {
  const numbers = `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ${UPDATES}), four(d) as (values (0), (1), (2), (3))`
  const atMs = `${Date.now()} - (${UPDATES} - n) * ${HOURS * 3_600_000}`
  const hash = `printf('%064x', n * 4 + d)`
  for (const [table, columns, values, from] of [
    [
      'masks',
      'model, version, sha256, parent_version, update_id, method, pattern, scope, sparsity, domains, bytes, created_at, promoted_at, swept_at',
      `'${MODEL}', n, n, n - 1, 'u' || n, 'm', '0.5', 'row', 0.5, '[]', 1, ${atMs}, ${atMs}, iif(n % 2, 1, null)`,
      'numbers',
    ],
    [
      'updates',
      'id, model, domains, method, pattern, scope, samples, length, seed, state, mask_version, datasets, created_at, finished_at',
      `'u' || n, '${MODEL}', '["d0"]', 'm', '0.5', 'row', 16, 512, 0, iif(n % 9, 'promoted', 'failed'), n, '[]', ${atMs}, ${atMs}`,
      'numbers',
    ],
    [
      'jobs',
      'id, update_id, model, kind, payload, state, created_at',
      `'j' || n || d, 'u' || n, '${MODEL}', 'evaluate', '{}', 'done', ${atMs}`,
      'numbers, four',
    ],
    [
      'decisions',
      'model, update_id, mask_version, kind, verdict, reason, actor, created_at',
      `'${MODEL}', 'u' || n, n, 'gate', 'passed', '', 'copal', ${atMs}`,
      'numbers, four',
    ],
    [
      'datasets',
      'sha256, domain, samples, bytes, created_at',
      `${hash}, 'd' || d, 16, 1, ${atMs}`,
      'numbers, four',
    ],
    [
      'batches',
      'model, dataset_sha256, update_id, domain, state, created_at',
      `'${MODEL}', ${hash}, 'u' || n, 'd' || d, 'counted', ${atMs}`,
      'numbers, four',
    ],
  ] as const)
    await env.DB.prepare(`insert into ${table} (${columns}) ${numbers} select ${values} from ${from}`).run()
  // Of two domains statistics sum all texts, which then may expire.
  await env.DB.prepare(
    `insert into statistics (model, artifact, domain, datasets, bytes, created_at)
      select model, domain, domain, json_group_array(dataset_sha256), 1, 1 from batches where domain in ('d0', 'd1') group by 1, 2`,
  ).run()
  await env.DB.prepare('update models set active_version = ?, previous_version = ? where id = ?')
    .bind(UPDATES, UPDATES - 1, MODEL)
    .run()
}

test('a heartbeat reads a few rows, a scrape and a list of decisions little more, and a sweep some for each update', async () => {
  await sendHeartbeat(NODE, MODEL)
  await storeUpdates()
  const counted = countRows(env.DB)
  const deps = testDeps({ db: openDatabase(counted.binding), maskDays: 20, datasetDays: 20 })
  const rowsOf = async (ask: () => Promise<unknown>) => {
    const before = counted.rowsRead()
    await ask()
    return counted.rowsRead() - before
  }
  expect(await rowsOf(() => acceptHeartbeat(deps, heartbeatOf(NODE, MODEL)))).toBeLessThan(10)
  expect(await rowsOf(() => collectMetrics(deps))).toBeLessThan(200)
  expect(await rowsOf(() => advanceDetectors(deps))).toBeLessThan(20)
  expect(await rowsOf(() => listRecentDecisions(deps.db, MODEL, 10))).toBeLessThan(50)
  expect(await rowsOf(() => overviewReport(deps, MODEL))).toBeLessThan(200)
  expect(await rowsOf(() => listUpdates(deps.db, 90))).toBeLessThan(200)
  expect(await rowsOf(() => findLastUpdate(deps.db, MODEL))).toBeLessThan(10)
  // Of the newest updates it reads 500.
  expect(await rowsOf(() => runTriggers(deps))).toBeLessThan(Math.min(UPDATES, 500) + 20)
  expect(await rowsOf(() => sweepArtifacts(deps))).toBeLessThan(30 * UPDATES)
  // Jobs of ended updates need no file.
  const files = Array.from({ length: 100 }, (_, index) => `file-${index}`)
  expect(await rowsOf(() => keptMasks(deps.db, files, 0))).toBeLessThan(UPDATES + 300)
  expect(await rowsOf(() => expireDatasets(deps))).toBeLessThan(40 * UPDATES)
  const expired = await env.DB.prepare(
    'select distinct domain from datasets where expired_at is not null',
  ).all()
  expect(expired.results).toEqual([{ domain: 'd0' }, { domain: 'd1' }])
})

test('tasks that look for keys of a kind read few rows however many other keys there are', async () => {
  await env.DB.prepare(
    `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 500)
      insert into api_keys (id, name, hash, prefix, default_domain, sampling, created_at, peppered)
      select 'many-' || n, 'k', 'h' || n, 'p', 'd', 'always', 1, 1 from numbers`,
  ).run()
  const counted = countRows(env.DB)
  const deps = testDeps({ db: openDatabase(counted.binding) })
  expect(await isDiscovering(deps.db)).toBe(false)
  await pepperStoredKeys(deps)
  expect(counted.rowsRead()).toBeLessThan(20)
  await env.DB.prepare(`update api_keys set discover_domains = 1 where id = 'many-7'`).run()
  expect(await isDiscovering(deps.db)).toBe(true)
})

test('a batch of samples reads the deletions since its oldest one, however many there were before', async () => {
  await env.DB.prepare(
    `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 500)
      insert into tombstones (request_id, created_at) select 'req_' || n, n from numbers`,
  ).run()
  const counted = countRows(env.DB)
  expect(await listTombstones(openDatabase(counted.binding), 498)).toHaveLength(3)
  expect(counted.rowsRead()).toBeLessThan(10)
})

test('the owners of domains are read without those that all tenants share', async () => {
  await ensureDomains(
    openDatabase(env.DB),
    Array.from({ length: 500 }, (_, index) => `shared-${index}`),
    1,
  )
  await env.DB.prepare(`insert into domains (name, created_at, owner) values ('owned', 1, 'acme')`).run()
  const counted = countRows(env.DB)
  const { owners } = await findOwnedDomains(openDatabase(counted.binding))
  expect([...owners]).toEqual([['owned', 'acme']])
  expect(counted.rowsRead()).toBeLessThan(10)
})
