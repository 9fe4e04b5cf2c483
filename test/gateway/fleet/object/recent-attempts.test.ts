import { env } from 'cloudflare:workers'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { FailedAttempt } from '../../../../gateway/src/contracts/acquire.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { sumVersionsSince } from '../../../../gateway/src/storage/db/queries/period-queries.ts'
import {
  findSettledReceipts,
  insertReceipts,
} from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { sumChargedTokens } from '../../../../gateway/src/storage/db/queries/usage-day-queries.ts'
import { storeEstimates } from '../../../../gateway/src/fleet/object/estimated-receipts.ts'
import { MAX_PENDING } from '../../../../gateway/src/fleet/object/failed-attempts.ts'
import { RecentAttempts } from '../../../../gateway/src/fleet/object/recent-attempts.ts'
import {
  sendHeartbeat,
  createKey,
  post,
  receiptOf,
  signedPost,
  until,
} from '../../support/requests/gateway-requests.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { loseDatabase } from '../../support/faults/lost-database.ts'
import { moveClock } from '../../support/doubles/stopped-clock.ts'
import { sumUsage } from '../../support/state/usage-sums.ts'

const db = openDatabase(env.DB)
const JSON_TYPE = { 'content-type': 'application/json', 'x-copal-mask': '0' }

/** Returns the counts of a model's requests, and the tokens charged to their key. */
async function told(model: string, account: string) {
  const usage = (await sumUsage(db)).filter((row) => row.model === model)
  return {
    usage: usage.map(({ finishReason, requests, completionTokens }) => [
      finishReason,
      requests,
      completionTokens,
    ]),
    charged: await sumChargedTokens(
      db,
      { kind: 'key', name: account },
      { fromMs: 0, beforeMs: Number.MAX_SAFE_INTEGER },
    ),
  }
}

test('a request that was retried on another node counts once, and not as an error', async () => {
  const model = 'superseded'
  const { id: account, key } = await createKey()
  const bad = await startNode('superseded-1', [{ kind: 'drop' }])
  const good = await startNode('superseded-2', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
  await sendHeartbeat(bad, model)
  await sendHeartbeat(good, model, { load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1 } })
  const answer = await post(key, '/v1/completions', { model, prompt: 'Once' })
  const requestId = answer.headers.get('x-request-id') ?? ''
  expect(answer.headers.get('x-copal-node')).toBe('superseded-2')
  const settle = (nodeId: string, changes: object) =>
    signedPost('/internal/nodes/receipts', {
      nodeId,
      receipts: [receiptOf(requestId, { model, account, ...changes })],
    })
  await settle('superseded-1', { finishReason: 'error', completionTokens: 3 })
  expect(await told(model, account)).toEqual({ usage: [], charged: 0 })
  await settle('superseded-2', { requestId: `${requestId}.2`, completionTokens: 7 })
  expect(await told(model, account)).toEqual({ usage: [['stop', 1, 7]], charged: 17 })
  // The comparison of masks includes the failed attempt.
  expect(await sumVersionsSince(db, model, { fromMs: 0, nowMs: Date.now() })).toMatchObject([
    { requests: 2, failed: 1 },
  ])
})

/** A request on one of two nodes, its receipt, and the gateway's next call of the fleet. */
async function leasedOnOneOfTwo(model: string) {
  const { id: account } = await createKey()
  for (const id of [`${model}-1`, `${model}-2`]) await sendHeartbeat({ id, url: 'http://127.0.0.1:9' }, model)
  const fleet = env.FLEET.get(env.FLEET.idFromName('fleet'))
  const requestId = `request-${model}`
  const asked = { model, account, domain: 'default', promptTokens: 1 }
  const acquired = await fleet.acquire({ ...asked, requestId, exclude: [] })
  const nodeId = acquired.ok ? acquired.nodeId : ''
  const failed = (how: FailedAttempt['how'] = 'failed') => ({ requestId, nodeId, how })
  return {
    account,
    settle: (changes: object) =>
      signedPost('/internal/nodes/receipts', {
        nodeId,
        receipts: [receiptOf(requestId, { model, account, ...changes })],
      }),
    retry: () =>
      fleet.acquire({ ...asked, requestId: `${requestId}.2`, exclude: [nodeId], failed: failed() }),
    giveUp: (how: FailedAttempt['how']) => fleet.fail(failed(how)),
  }
}

test('the receipt of a superseded attempt is not counted, whether it arrives before or after the retry', async () => {
  const model = 'overtaken'
  const { account, settle, retry } = await leasedOnOneOfTwo(model)
  const settled = settle({ finishReason: 'error' })
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect(await retry()).toMatchObject({ ok: true })
  expect((await settled).status).toBe(200)
  expect(await told(model, account)).toEqual({ usage: [], charged: 0 })
})

test.each(['failed', 'refused', 'broke'] as const)(
  'an attempt that %s and is not retried counts as a request without tokens',
  async (how) => {
    const model = `given-up-${how}`
    const { account, settle, giveUp } = await leasedOnOneOfTwo(model)
    const settled = settle({ finishReason: 'error' })
    await giveUp(how)
    await settled
    expect(await told(model, account)).toEqual({ usage: [['error', 1, 0]], charged: 0 })
  },
)

test('a failed attempt counts with its tokens if some output was sent, or if the gateway does not report it', async () => {
  const cut = await leasedOnOneOfTwo('cut-off')
  await cut.giveUp('cut')
  await cut.settle({ finishReason: 'error' })
  expect(await told('cut-off', cut.account)).toEqual({ usage: [['error', 1, 5]], charged: 15 })
  const unsaid = await leasedOnOneOfTwo('unsaid')
  await unsaid.settle({ finishReason: 'error' })
  expect(await told('unsaid', unsaid.account)).toEqual({ usage: [['error', 1, 5]], charged: 15 })
})

test('a response that was lost on its way and generated again counts once', async () => {
  const model = 'lost-answer'
  const { account, settle, retry } = await leasedOnOneOfTwo(model)
  await retry()
  await settle({ finishReason: 'stop' })
  expect(await told(model, account)).toEqual({ usage: [], charged: 0 })
})

test('a response that was lost on its way counts once with its retry, also if its receipt arrives before the retry', async () => {
  const model = 'early-stop'
  const { account, settle, retry } = await leasedOnOneOfTwo(model)
  await settle({ finishReason: 'stop' })
  expect(await told(model, account)).toEqual({ usage: [['stop', 1, 5]], charged: 15 })
  expect(await retry()).toMatchObject({ ok: true })
  // No counter falls.
  const superseded = {
    usage: [
      ['moved', -1, -5],
      ['stop', 1, 5],
    ],
    charged: 0,
  }
  await expect.poll(() => told(model, account)).toEqual(superseded)
  await settle({ requestId: `request-${model}.2`, completionTokens: 7 })
  expect(await told(model, account)).toEqual({
    usage: [
      ['moved', -1, -5],
      ['stop', 2, 12],
    ],
    charged: 17,
  })
  const whole = { fromMs: 0, nowMs: Date.now() }
  expect(await sumVersionsSince(db, model, whole)).toMatchObject([{ requests: 2, failed: 1 }])
})

test.each([
  ['an attempt without another one counts as a request without tokens', 'giveUp', [['error', 1, 0]]],
  ['a superseded attempt is not counted', 'retry', []],
] as const)(
  '%s, also if the fleet restarts within a second and the receipt comes later',
  async (_name, end, usage) => {
    const model = `restarted-${end}`
    const { account, settle, ...attempt } = await leasedOnOneOfTwo(model)
    await (end === 'giveUp' ? attempt.giveUp('broke') : attempt.retry())
    const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))
    await runInDurableObject(fleet(), (_, state) => state.abort('reset by a test')).catch(() => undefined)
    const requestId = `request-${model}`
    moveClock(6_000)
    await runDurableObjectAlarm(fleet())
    expect(await findSettledReceipts(db, [requestId])).toMatchObject([{ requestId, estimated: true }])
    await evictDurableObject(fleet())
    await settle({ finishReason: 'error' })
    expect(await told(model, account)).toEqual({ usage, charged: 0 })
  },
)

test.each([
  ['an attempt without another one counts as a request without tokens', 'giveUp', [['stop', 1, 0]]],
  ['a superseded attempt is not counted', 'retry', []],
] as const)('%s, also if its receipt comes just after a restart of the fleet', async (_name, end, usage) => {
  const model = `restarted-soon-${end}`
  const { account, settle, ...attempt } = await leasedOnOneOfTwo(model)
  await (end === 'giveUp' ? attempt.giveUp('broke') : attempt.retry())
  await restartFleet()
  await settle({ finishReason: 'stop' })
  expect(await told(model, account)).toEqual({ usage, charged: 0 })
})

test('an attempt that took too long charges nothing, also if its receipt came first', async () => {
  const model = 'late-refusal'
  const { account, settle, giveUp } = await leasedOnOneOfTwo(model)
  await settle({ finishReason: 'cancelled' })
  expect(await told(model, account)).toMatchObject({ charged: 15 })
  await giveUp('refused')
  await expect.poll(async () => (await told(model, account)).charged, { timeout: 5_000 }).toBe(0)
})

describe('failed attempts that the database does not take', () => {
  const fleet = () => env.FLEET.get(env.FLEET.idFromName('pending'))
  const failedKeys = () =>
    runInDurableObject(fleet(), async (_, { storage }) => [
      ...(await storage.list({ prefix: 'failed:' })).keys(),
    ])

  test('are stored by the alarm when it responds again', async () => {
    const node = { id: 'pending-1', url: 'http://127.0.0.1:9' }
    await fleet().heartbeat(heartbeatOf(node, 'pending'), 0)
    const asked = { model: 'pending', domain: 'default', promptTokens: 1, exclude: [] }
    await fleet().acquire({ ...asked, requestId: 'pending-request' })
    const errors = loseDatabase()
    await fleet().fail({ requestId: 'pending-request', nodeId: node.id, how: 'broke' })
    await until('the failed attempt to be logged', () => Promise.resolve(errors.mock.calls[0]))
    vi.restoreAllMocks()
    expect(await failedKeys()).toEqual(['failed:pending-request'])
    moveClock(6_000)
    await runDurableObjectAlarm(fleet())
    expect(await findSettledReceipts(db, ['pending-request'])).toMatchObject([{ tokens: 0 }])
    expect(await failedKeys()).toEqual([])
  })

  test('do not keep others from it, and are dropped after a day', async () => {
    const errors = vi.spyOn(console, 'error').mockImplementation(() => undefined)
    onTestFinished(() => errors.mockRestore())
    const counts = { promptTokens: 1, completionTokens: 0, acquiredAtMs: 0, expiresAtMs: 0, progressAtMs: 0 }
    const lease = { nodeId: 'node-1', domain: 'default', maskVersion: 0, named: true, ...counts }
    const invalid = [1, 2, 3, 4].map((index) => `invalid-${index}`)
    await runInDurableObject(fleet(), async (_, { storage }) => {
      for (const requestId of invalid) {
        const attempt = {
          outcome: 'undelivered',
          atMs: Date.now(),
          lease: { ...lease, requestId, model: null },
        }
        await storage.put(`failed:${requestId}`, attempt)
      }
      const valid = { ...lease, requestId: 'valid', model: 'pending' }
      await storage.put('failed:valid', { outcome: 'undelivered', atMs: Date.now(), lease: valid })
      await storage.setAlarm(Date.now() + 60_000)
    })
    await evictDurableObject(fleet())
    moveClock(6_000)
    for (let turn = 0; turn < 2; turn += 1) await runDurableObjectAlarm(fleet())
    expect(await findSettledReceipts(db, ['valid'])).toHaveLength(1)
    expect(await failedKeys()).toEqual(invalid.map((requestId) => `failed:${requestId}`))
    moveClock(24 * 60 * 60 * 1000)
    for (let turn = 0; turn < 2; turn += 1) await runDurableObjectAlarm(fleet())
    expect(await failedKeys()).toEqual([])
  })

  test('are as many as the object can read when it starts', async () => {
    const object = env.FLEET.get(env.FLEET.idFromName('pending-many'))
    const attempt = { outcome: 'undelivered', atMs: Date.now() }
    await runInDurableObject(object, async (_, { storage }) => {
      for (let from = 0; from < MAX_PENDING; from += 100) {
        const ids = Array.from({ length: 100 }, (_unused, index) => `failed:${from + index}`)
        await storage.put(Object.fromEntries(ids.map((id) => [id, attempt])))
      }
    })
    await evictDurableObject(object)
    const errors = loseDatabase()
    await object.fail({ requestId: 'one-more', nodeId: 'node-1', how: 'broke' })
    await until('the failed attempt to be logged', () => Promise.resolve(errors.mock.calls[0]))
    const size = await runInDurableObject(object, async (_, { storage }) => (await storage.list()).size)
    expect(size).toBe(MAX_PENDING)
  })

  test('keep the alarm', async () => {
    const object = env.FLEET.get(env.FLEET.idFromName('pending-alone'))
    await runInDurableObject(object, async (_, { storage }) => {
      await storage.put('failed:alone', { outcome: 'undelivered', atMs: Date.now() })
      await storage.setAlarm(Date.now() + 60_000)
    })
    await evictDurableObject(object)
    await runDurableObjectAlarm(object)
    expect(await runInDurableObject(object, (_, { storage }) => storage.getAlarm())).not.toBeNull()
  })
})

test('a superseded attempt whose node died before its receipt is charged nothing', async () => {
  const model = 'superseded-death'
  const { id: account } = await createKey()
  const counts = { promptTokens: 10, completionTokens: 5, acquiredAtMs: 0, expiresAtMs: 0, progressAtMs: 0 }
  const lease = {
    nodeId: 'node-1',
    model,
    domain: 'default',
    maskVersion: 0,
    account,
    named: true,
    ...counts,
  }
  const leases = ['request-dead', 'request-dead.2'].map((requestId) => ({ ...lease, requestId }))
  await storeEstimates(env.DB, 'node-1', leases, (id) => id === 'request-dead', 1)
  expect(await told(model, account)).toEqual({ usage: [['estimated', 1, 5]], charged: 15 })
})

test('a request without another node counts with the result of its only attempt', async () => {
  const model = 'not-superseded'
  const { id: account } = await createKey()
  const receipts = [receiptOf('request-alone', { model, account, finishReason: 'cancelled' })]
  await signedPost('/internal/nodes/receipts', { nodeId: 'node-1', receipts })
  expect(await told(model, account)).toEqual({ usage: [['cancelled', 1, 5]], charged: 15 })
})

test('the estimate of a superseded attempt is removed when its receipt arrives', async () => {
  const model = 'superseded-estimate'
  const { id: account } = await createKey()
  const receipt = receiptOf('request-guessed', { model, account })
  await insertReceipts(db, 'node-1', [{ ...receipt, finishReason: 'error' }], 'estimate', 1)
  await insertReceipts(db, 'node-1', [{ ...receipt, finishReason: 'superseded' }], 'node', 2)
  expect(await told(model, account)).toEqual({ usage: [], charged: 0 })
})

test('the receipt of a superseded attempt is not counted, also if it comes when the attempt is forgotten', async () => {
  const model = 'superseded-late'
  const { account, settle, retry } = await leasedOnOneOfTwo(model)
  await retry()
  const requestId = `request-${model}`
  await until('the attempt to be stored', async () => (await findSettledReceipts(db, [requestId]))[0])
  expect(await told(model, account)).toEqual({ usage: [], charged: 0 })
  await restartFleet()
  await settle({ finishReason: 'stop' })
  expect(await told(model, account)).toEqual({ usage: [], charged: 0 })
  const settled = { requestId, finishReason: 'superseded', estimated: false, tokens: 15 }
  expect(await findSettledReceipts(db, [requestId])).toEqual([settled])
  const whole = { fromMs: 0, nowMs: Date.now() }
  expect(await sumVersionsSince(db, model, whole)).toMatchObject([{ requests: 1, failed: 1 }])
})

/** Restarts the Fleet object, which forgets the attempts that failed. */
async function restartFleet(): Promise<void> {
  const fleet = env.FLEET.get(env.FLEET.idFromName('fleet'))
  await runInDurableObject(fleet, (_, state) => state.abort('reset by a test')).catch(() => undefined)
}

const stored = (requestId: string) =>
  until('the attempt to be stored', async () => (await findSettledReceipts(db, [requestId]))[0])

test('the receipt of an attempt that was given up charges nothing, also if it comes when the attempt is forgotten', async () => {
  const model = 'given-up-late'
  const { account, settle, giveUp } = await leasedOnOneOfTwo(model)
  await giveUp('broke')
  await stored(`request-${model}`)
  expect(await told(model, account)).toEqual({ usage: [['estimated', 1, 0]], charged: 0 })
  await restartFleet()
  await settle({ finishReason: 'error' })
  expect(await told(model, account)).toEqual({ usage: [['error', 1, 0]], charged: 0 })
})

test('a response that was lost on its way and not generated again charges nothing, also if its receipt came first', async () => {
  const model = 'given-up-early'
  const { account, settle, giveUp } = await leasedOnOneOfTwo(model)
  await settle({ finishReason: 'stop' })
  expect(await told(model, account)).toEqual({ usage: [['stop', 1, 5]], charged: 15 })
  await giveUp('broke')
  // No counter falls.
  const corrected = {
    usage: [
      ['moved', 0, -5],
      ['stop', 1, 5],
    ],
    charged: 0,
  }
  await expect.poll(() => told(model, account)).toEqual(corrected)
})

test.each(['before', 'after'] as const)(
  'a request whose retry got no node counts once, with a receipt %s the retry',
  async (when) => {
    const model = `no-second-node-${when}`
    const { account, settle, retry } = await leasedOnOneOfTwo(model)
    for (const nodeId of [1, 2])
      await sendHeartbeat({ id: `${model}-${nodeId}`, url: 'http://127.0.0.1:9' }, model, { leaving: true })
    const settled = when === 'before' ? settle({ finishReason: 'error' }) : undefined
    expect(await retry()).toMatchObject({ ok: false })
    await settled
    await stored(`request-${model}`)
    await expect
      .poll(() => told(model, account))
      .toEqual({ usage: [[when === 'before' ? 'error' : 'estimated', 1, 0]], charged: 0 })
    await restartFleet()
    await settle({ finishReason: 'error' })
    expect(await told(model, account)).toEqual({ usage: [['error', 1, 0]], charged: 0 })
  },
)

test('failed attempts are forgotten once their receipts cannot be on their way any more', () => {
  const attempts = new RecentAttempts()
  attempts.add('first', 'superseded', 0)
  attempts.add('second', 'undelivered', 599_999)
  expect(attempts.find(['first', 'second', 'never'])).toEqual({
    superseded: ['first'],
    undelivered: ['second'],
  })
  attempts.add('third', 'superseded', 600_000)
  expect(attempts.find(['first', 'second', 'third'])).toEqual({
    superseded: ['third'],
    undelivered: ['second'],
  })
})
