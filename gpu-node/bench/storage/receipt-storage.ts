import { randomBytes } from 'node:crypto'
import { DAY_MS } from '@copal/shared/day.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import { startReceiptStorage, type ReceiptStorage } from './storage-worker.ts'

/** The load of one measurement. */
export interface StorageLoad {
  /** Number of old receipts that are stored before the measurement. */
  stored: number
  /** Numbers of receipts in a batch. */
  batchSizes: readonly number[]
  repetitions: number
}

/** A checkout by its name in the report. */
export interface Checkout {
  name: string
  root: string
}

/** Domains and masks of a batch, as a busy fleet with a canary has. */
const DOMAINS = 10
const MASKS = 2
/** Rows that one statement inserts when the database is filled. */
const FILLED_AT_ONCE = 20_000

/**
 * Measures the storage of receipts of some checkouts in turn, in workerd's D1: inserting batches beside many stored receipts,
 * deleting the old ones, and inserting meanwhile.
 *
 * @param home folder for databases
 */
export async function measureReceiptStorage(
  checkouts: readonly Checkout[],
  { stored, batchSizes, repetitions }: StorageLoad,
  { home, print }: { home: string; print: (text: string) => void },
): Promise<void> {
  const storages: { name: string; storage: ReceiptStorage }[] = []
  try {
    for (const { name, root } of checkouts)
      storages.push({ name, storage: await startReceiptStorage(root, `${home}/${name}`) })
    const nowMs = Date.now()
    for (const { storage } of storages) await fill(storage, stored, nowMs - 40 * DAY_MS)
    for (const size of batchSizes) {
      const times = storages.map((each) => ({ ...each, elapsedMs: [] as number[], processorMs: 0 }))
      for (let round = -2; round < repetitions; round += 1)
        for (const time of round % 2 ? times.toReversed() : times) {
          const before = time.storage.processorMs()
          const elapsedMs = await time.storage.call('/insert', {
            receipts: receipts(size),
            nowMs: nowMs + round,
          })
          if (round < 0) continue
          time.elapsedMs.push(elapsedMs)
          time.processorMs += time.storage.processorMs() - before
        }
      for (const { name, elapsedMs, processorMs } of times)
        print(
          line(
            `insert ${size} receipts, ${name}`,
            `${formatSpread(spread(elapsedMs), 'ms')}, ${(processorMs / repetitions).toFixed(1)} ms of processor time`,
          ),
        )
    }
    for (const { name, storage } of storages) print(await deletion(name, storage, nowMs))
  } finally {
    await Promise.all(storages.map(({ storage }) => storage.stop()))
  }
}

/** Runs the deletion of old receipts once, while batches are inserted one after the other. */
async function deletion(name: string, storage: ReceiptStorage, nowMs: number): Promise<string> {
  const before = await countOld(storage, nowMs)
  const run = { isOver: false }
  const deleting = storage.call('/delete', { nowMs, days: 30 }).finally(() => (run.isOver = true))
  const meanwhile: number[] = []
  while (!run.isOver) meanwhile.push(await storage.call('/insert', { receipts: receipts(256), nowMs }))
  const elapsedMs = await deleting
  const deleted = before - (await countOld(storage, nowMs))
  const rate = ((deleted / elapsedMs) * 1000).toFixed(0)
  const inserted = ((meanwhile.length * 256) / elapsedMs) * 1000
  return (
    line(`delete old receipts, ${name}`, `${deleted} in ${(elapsedMs / 1000).toFixed(1)} s, ${rate}/s`) +
    `\n${line(`  256 receipts meanwhile, ${name}`, `${formatSpread(spread(meanwhile), 'ms')}, ${inserted.toFixed(0)} receipts/s`)}`
  )
}

function countOld(storage: ReceiptStorage, nowMs: number): Promise<number> {
  return storage.number('select count(*) from receipts where created_at < ?', nowMs - 30 * DAY_MS)
}

/** Stores receipts with random ids whose times ascend by a millisecond. */
async function fill(storage: ReceiptStorage, count: number, fromMs: number): Promise<void> {
  for (let first = 0; first < count; first += FILLED_AT_ONCE)
    await storage.number(
      `with recursive numbers(n) as (select ? union all select n + 1 from numbers where n + 1 < ?)
        insert into receipts (request_id, node_id, model, domain, mask_version, prompt_tokens, completion_tokens,
          finish_reason, queue_ms, time_to_first_token_ms, total_ms, estimated, created_at, key_id)
        select 'req_' || hex(randomblob(12)), 'node-1', 'tiny', 'domain-' || n % ?, n % ?, 100, 50, 'stop', 1, 20, 400, 0,
          ? + n, 'key_' || n % 100 from numbers returning 1`,
      first,
      Math.min(first + FILLED_AT_ONCE, count),
      DOMAINS,
      MASKS,
      fromMs,
    )
}

function receipts(size: number): object[] {
  return Array.from({ length: size }, (_, index) => ({
    requestId: `req_${randomBytes(12).toString('hex')}`,
    account: `key_${index % 100}`,
    model: 'tiny',
    domain: `domain-${index % DOMAINS}`,
    maskVersion: index % MASKS,
    promptTokens: 100 + index,
    completionTokens: 50,
    finishReason: 'stop',
    queueMs: 1.5,
    timeToFirstTokenMs: 20 + index,
    totalMs: 400 + index,
    drift: index % 10 === 0 ? { tokens: 64, nllMasked: 200.5 + index, nllDense: 190.25 + index } : null,
    scoring: index % 10 === 0 ? 'scored' : 'not_sampled',
  }))
}
