/** Tests that what is asked often reads as many rows of D1 whatever the number of receipts and of masks. */
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { canaryReport } from '../../../gateway/src/adaptation/trials/trial-report.ts'
import { selectionWeights } from '../../../gateway/src/adaptation/statistics/selection-weights.ts'
import { gatherPlan } from '../../../gateway/src/adaptation/triggers/gather-plan.ts'
import { overviewReport } from '../../../gateway/src/dashboard/overview.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../gateway/src/storage/db/queries/domain-queries.ts'
import { findModel } from '../../../gateway/src/storage/db/queries/model-queries.ts'
import { insertReceipts } from '../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { collectMetrics, collectTenantMetrics } from '../../../gateway/src/usage/metrics/collect-metrics.ts'
import { seriesReport } from '../../../gateway/src/usage/series/series-report.ts'
import { testDeps } from '../support/doubles/simulated-node.ts'
import { createKey, receiptOf, sendHeartbeat } from '../support/requests/gateway-requests.ts'
import { countRows } from '../support/state/counted-rows.ts'

const MODEL = 'many'
const MORE = 100_000

/** Adds receipts behind the sums, as if these were of earlier ones: periods and totals have as many rows as before. */
async function addReceipts(count: number, nowMs: number): Promise<void> {
  await env.DB.prepare(
    `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ?)
      insert into receipts (request_id, node_id, model, domain, mask_version, prompt_tokens, completion_tokens, finish_reason,
        queue_ms, total_ms, estimated, created_at)
      select 'more-' || n, 'node-1', ?, iif(n % 2, 'legal', 'code'), n % 2, 10, 5, 'stop', 1, 40, 0, ? - n from numbers`,
  )
    .bind(count, MODEL, nowMs)
    .run()
}

test('a scrape, the dashboard, a plan and a selection read as many rows of a thousand receipts as of 101,000', async () => {
  await sendHeartbeat({ id: 'node-1', url: 'http://127.0.0.1:9' }, MODEL)
  const counted = countRows(env.DB)
  const nowMs = Date.now()
  const deps = testDeps({ db: openDatabase(counted.binding), nowMs: () => nowMs })
  await ensureDomains(deps.db, ['legal', 'code'], 1)
  for (let first = 0; first < 1_000; first += 250) {
    const batch = Array.from({ length: 250 }, (_, index) =>
      receiptOf(`rows-${first + index}`, {
        model: MODEL,
        domain: index % 2 ? 'legal' : 'code',
        maskVersion: index % 2,
        drift: { tokens: 10, nllMasked: 21, nllDense: 20 },
      }),
    )
    await insertReceipts(deps.db, 'node-1', batch, 'node', nowMs - 3_600_000 + first)
  }
  const model = await findModel(deps.db, MODEL)
  if (!model) throw new Error('the model is unknown')
  const canary = { version: 1, beside: 0, share: 0.5, sinceMs: nowMs - 7_200_000 }
  const day = { from: undefined, to: undefined, width: undefined, domain: undefined }
  const policy = PRESETS.production
  const questions = {
    scrape: () => collectMetrics(deps),
    overview: () => overviewReport(deps, MODEL),
    series: () => seriesReport(deps, MODEL, day),
    canary: () => canaryReport(deps, { ...model, canary }),
    plan: () => gatherPlan(deps, model, policy, { always: true }),
    selection: () => selectionWeights(deps, MODEL, { domains: ['legal', 'code'], known: [] }, 'traffic'),
  }
  const ask = () => rowsReadBy(questions, counted)
  const few = await ask()
  // The numbers of today: tens of rows, of two domains and masks.
  expect(Math.min(...Object.values(few))).toBeGreaterThan(5)
  expect(Math.max(...Object.values(few))).toBeLessThan(200)
  await addReceipts(MORE, nowMs)
  expect(await ask()).toEqual(few)
})

/** Asks questions one after the other, and returns how many rows each reads. */
async function rowsReadBy(
  questions: Readonly<Record<string, () => Promise<unknown>>>,
  counted: Pick<ReturnType<typeof countRows>, 'rowsRead'>,
): Promise<Record<string, number>> {
  const rows: Record<string, number> = {}
  for (const [name, question] of Object.entries(questions)) {
    const before = counted.rowsRead()
    await question()
    rows[name] = counted.rowsRead() - before
  }
  return rows
}

/** Adds the totals of masks that served before: of three tenants and 70 domains each, as a year of updates leaves them. */
async function addOldMasks(count: number): Promise<void> {
  await env.DB.prepare(
    `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ?),
      domains(d) as (select 1 union all select d + 1 from domains where d < 70)
      insert into usage_totals select 't' || (n % 3), ?, iif(d = 1, '(other)', 'made-up-' || d), n, 'stop', 1, 10, 5, 1, 10, 21, 20
      from numbers, domains`,
  )
    .bind(count, MASKS)
    .run()
}

const MASKS = 'many-masks'

test('a scrape, a plan and the receipt of an unnamed domain read as many rows of twenty masks as of 500', async () => {
  await sendHeartbeat({ id: 'node-2', url: 'http://127.0.0.1:9' }, MASKS)
  const counted = countRows(env.DB)
  const deps = testDeps({ db: openDatabase(counted.binding) })
  await addOldMasks(20)
  const ask = async () => {
    const model = await findModel(deps.db, MASKS)
    if (!model) throw new Error('the model is unknown')
    const { id: account } = await createKey({ tenant: 't1' })
    const receipt = receiptOf(`of-${account}`, { account, model: MASKS, domain: `unnamed-${account}` })
    const questions = {
      scrape: () => collectMetrics(deps),
      tenant: () => collectTenantMetrics(deps, 't1'),
      plan: () => gatherPlan(deps, model, PRESETS.production, { always: true }),
      receipt: () => insertReceipts(deps.db, 'node-2', [receipt], 'node', 0),
    }
    return rowsReadBy(questions, counted)
  }
  await ask()
  const few = await ask()
  await env.DB.prepare('delete from usage_totals where model = ?').bind(MASKS).run()
  await addOldMasks(500)
  await ask()
  const many = await ask()
  const grown = Object.entries(many).filter(([name, rows]) => rows > (few[name] ?? 0) + 50)
  expect(grown).toEqual([])
})
