import { env } from 'cloudflare:workers'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { expect, test, vi } from 'vitest'
import type { FailedAttempt } from '../../../../gateway/src/contracts/acquire.ts'
import type { AccountRecord } from '../../../../gateway/src/fleet/ledger/ledger-records.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { sumChargedTokens } from '../../../../gateway/src/storage/db/queries/usage-day-queries.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { loseDatabase } from '../../support/faults/lost-database.ts'
import { createKey, receiptOf } from '../../support/requests/gateway-requests.ts'
import { moveClock } from '../../support/doubles/stopped-clock.ts'

const node = { id: 'node-1', url: 'http://127.0.0.1:9' }

/** A limited request on a node. Its receipt of 15 tokens is stored in the database, and then settled. */
async function limitedRequest(name: string) {
  const { id } = await createKey()
  const open = () => env.FLEET.get(env.FLEET.idFromName(name))
  const accounts = [{ kind: 'key' as const, name: id, limits: { tokensPerMonth: 1_000 } }]
  const limits = { requestId: name, accounts, maxTokens: 50 }
  const asked = { model: 'm', domain: 'd', account: id, promptTokens: 10, exclude: [], limits }
  const store = (requestId: string) => {
    const receipt = receiptOf(requestId, { account: id })
    return insertReceipts(openDatabase(env.DB), node.id, [receipt], 'node', Date.now())
  }
  const settle = async (requestId: string) => {
    await store(requestId)
    await open().settle([{ requestId, tokens: 15, succeeded: true }])
  }
  await open().heartbeat(heartbeatOf(node, 'm'), 0)
  await open().acquire({ ...asked, requestId: name })
  const failed = { requestId: name, nodeId: node.id, how: 'failed' as const }
  return {
    open,
    store,
    settle,
    failed,
    /** Has the fleet forget what it charged. */
    forget: {
      /** As when the gateway was stopped meanwhile. */
      'half a minute': async () => {
        moveClock(40_000)
        await open().heartbeat(heartbeatOf(node, 'm'), 0)
        await runDurableObjectAlarm(open())
      },
      'a restart': () => evictDurableObject(open()),
    },
    fail: async (how: FailedAttempt['how'] = 'failed') => {
      await open().fail({ ...failed, how })
      await open().finish([name], true)
    },
    retry: () => open().acquire({ ...asked, requestId: `${name}.2`, failed }),
    /** Returns the tokens that the ledger counts, and those of the receipts. */
    charged: async () => {
      await open().saveCounts()
      const record = await runInDurableObject(open(), (_, { storage }) =>
        storage.get<AccountRecord>(`account:key:${id}`),
      )
      const period = { fromMs: 0, beforeMs: Number.MAX_SAFE_INTEGER }
      const receipts = await sumChargedTokens(openDatabase(env.DB), { kind: 'key', name: id }, period)
      return { ledger: record?.spent ?? 0, receipts }
    },
  }
}

/** A limited request whose receipt is settled before the gateway knows that its response was lost. */
async function settledRequest(name: string) {
  const request = await limitedRequest(name)
  await request.settle(name)
  await request.open().saveCounts()
  return request
}

test.each(['half a minute', 'a restart'] as const)(
  'a request that fails %s after its receipt is charged nothing',
  async (meanwhile) => {
    const { forget, fail, charged } = await settledRequest(`fails after ${meanwhile}`)
    expect(await charged()).toEqual({ ledger: 15, receipts: 15 })
    await forget[meanwhile]()
    await fail()
    await expect.poll(charged).toEqual({ ledger: 0, receipts: 0 })
  },
)

test.each(['half a minute', 'a restart'] as const)(
  'a request that is retried %s after the receipt of its first attempt is charged once',
  async (meanwhile) => {
    const name = `retried after ${meanwhile}`
    const { forget, retry, settle, charged } = await settledRequest(name)
    await forget[meanwhile]()
    expect(await retry()).toMatchObject({ ok: true })
    // The reply of the call was lost.
    expect(await retry()).toMatchObject({ ok: true })
    await settle(`${name}.2`)
    await expect.poll(charged).toEqual({ ledger: 15, receipts: 15 })
  },
)

test('a request that fails while the database is down is given back once', async () => {
  const { open, forget, fail, charged } = await settledRequest('given back once')
  const errors = loseDatabase()
  await fail()
  await expect.poll(() => errors.mock.calls.length).toBeGreaterThan(0)
  vi.restoreAllMocks()
  expect(await charged()).toEqual({ ledger: 0, receipts: 15 })
  await forget['half a minute']()
  await runDurableObjectAlarm(open())
  await expect.poll(charged).toEqual({ ledger: 0, receipts: 0 })
})

test('a request of which only the failed attempt is reported is charged nothing', async () => {
  const { open, failed, charged } = await settledRequest('half reported')
  await open().fail(failed)
  await expect.poll(charged).toEqual({ ledger: 0, receipts: 0 })
})

test.each(['failed', 'refused'] as const)(
  'a request that %s while its receipt is stored is charged nothing',
  async (how) => {
    const name = `${how} meanwhile`
    const { open, store, fail, charged } = await limitedRequest(name)
    expect(await open().findFailed([name], [])).toEqual({ superseded: [], undelivered: [] })
    await store(name)
    await fail(how)
    await open().settle([{ requestId: name, tokens: 15, succeeded: true }])
    await expect.poll(charged, { timeout: 3_000 }).toEqual({ ledger: 0, receipts: 0 })
  },
)
