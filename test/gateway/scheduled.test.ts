import { env } from 'cloudflare:workers'
import { createExecutionContext, createScheduledController, waitOnExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { openDatabase } from '../../gateway/src/storage/db/open-database.ts'
import { findKey } from '../../gateway/src/storage/db/queries/key-queries.ts'
import { createDeps } from '../../gateway/src/deps.ts'
import worker from '../../gateway/src/index.ts'
import { createKey } from './support/requests/gateway-requests.ts'

test('a failing cron task is logged with its name, and the other tasks run', async () => {
  const { id } = await createKey({ peppered: false, hash: 'a'.repeat(64) })
  await env.DB.exec('DROP TABLE updates')
  await env.DB.exec('DROP TABLE receipts')
  const logged = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => logged.mockRestore())
  const ctx = createExecutionContext()
  await worker.scheduled(createScheduledController(), env, ctx)
  await waitOnExecutionContext(ctx)
  const messages = logged.mock.calls.map(([message]) => String(message)).sort()
  // Of deleteOldHistory the time decides which tables it reads.
  expect(messages.filter((message) => !message.includes("'deleteOldHistory'"))).toEqual([
    "The cron task 'advanceUpdates' failed; the next run retries it:",
    "The cron task 'deleteOldReceipts' failed; the next run retries it:",
    "The cron task 'expireDatasets' failed; the next run retries it:",
    "The cron task 'sweepArtifacts' failed; the next run retries it:",
  ])
  expect(await findKey(openDatabase(env.DB), id)).toMatchObject({ peppered: true })
})

test('a receipt retention shorter than nodes may be offline is a configuration error', () => {
  const daysOf = (COPAL_RECEIPT_DAYS: string) =>
    createDeps({ ...env, COPAL_RECEIPT_DAYS }, createExecutionContext()).receiptDays
  expect(() => daysOf('6')).toThrow(/COPAL_RECEIPT_DAYS is '6'.*7 days.*0 to keep all/)
  expect(() => daysOf('soon')).toThrow(/a whole number is expected, of days/)
  expect(['', '0', '7'].map(daysOf)).toEqual([30, 0, 7])
})

test('a retention of records shorter than an update may be forced is a configuration error', () => {
  const daysOf = (COPAL_HISTORY_DAYS: string) =>
    createDeps({ ...env, COPAL_HISTORY_DAYS }, createExecutionContext()).historyDays
  expect(() => daysOf('30')).toThrow(/COPAL_HISTORY_DAYS is '30'.*31 days.*0 to keep all/)
  expect(['', '0', '31'].map(daysOf)).toEqual([365, 0, 31])
})
