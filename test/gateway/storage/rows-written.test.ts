/** Tests the rows of D1 that a request and a heartbeat read and write, which Cloudflare bills. `docs/capacity.md` names these figures. */
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { acceptHeartbeat } from '../../../gateway/src/fleet/registration/accept-heartbeat.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertReceipts } from '../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { deleteOldReceipts } from '../../../gateway/src/storage/retention.ts'
import { heartbeatOf } from '../../support/doubles/heartbeat.ts'
import { testDeps } from '../support/doubles/simulated-node.ts'
import { receiptOf, sendHeartbeat } from '../support/requests/gateway-requests.ts'
import { countRows } from '../support/state/counted-rows.ts'

const MODEL = 'billed'
const NODE = { id: 'node-1', url: 'http://127.0.0.1:9' }
const DOMAINS = ['a', 'b', 'c', 'd', 'e']

test('a receipt writes 13 rows alone and four in a large batch, its deletion one, and a heartbeat none', async () => {
  await sendHeartbeat(NODE, MODEL)
  const counted = countRows(env.DB)
  const deps = testDeps({ db: openDatabase(counted.binding) })
  await ensureDomains(deps.db, DOMAINS, 1)
  const nowMs = Date.now()
  let stored = 0
  const rowsOf = async (run: () => Promise<unknown>) => {
    const [read, written] = [counted.rowsRead(), counted.rowsWritten()]
    await run()
    return { read: counted.rowsRead() - read, written: counted.rowsWritten() - written }
  }
  /** Stores a batch and returns the rows of one of its receipts. */
  const store = async (size: number, atMs = nowMs) => {
    const receipts = Array.from({ length: size }, (_, index) =>
      receiptOf(`billed-${stored++}`, { model: MODEL, domain: DOMAINS[index % DOMAINS.length] ?? 'a' }),
    )
    const { read, written } = await rowsOf(() => insertReceipts(deps.db, NODE.id, receipts, 'node', atMs))
    return { read: read / size, written: written / size }
  }
  // The first receipts of a minute also begin its periods.
  await store(DOMAINS.length)
  expect((await store(1)).written).toBe(13)
  expect((await store(16)).written).toBeCloseTo(5.8, 1)
  expect((await store(256)).written).toBeCloseTo(4.1, 1)
  expect((await store(256)).read).toBeLessThan(50)

  const monthAgoMs = nowMs - 40 * 86_400_000
  await store(256, monthAgoMs)
  expect((await rowsOf(() => deleteOldReceipts(deps))).written).toBeLessThan(256 + 5)

  const beat = await rowsOf(() => acceptHeartbeat(deps, heartbeatOf(NODE, MODEL)))
  expect(beat).toEqual({ read: 3, written: 0 })
})
