/** The effects on users of faults of the gateway, its objects and its database, and of floods. The nodes have the tiny model. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ErrorBody } from '@copal/shared/errors.ts'
import { expect, onTestFinished, test, vi } from 'vitest'
import { breakDatabase, corruptKeys } from '../support/faults/break-database.ts'
import { breakFleetObject, storedReservations } from '../support/faults/break-fleet-object.ts'
import { prepareFaultFleet, SILENT_MS, testNoRequestIsLeft } from '../support/faults/fault-fleet.ts'
import { sumMetric } from '../support/processes/metrics.ts'
import { until } from '../support/processes/service.ts'
import { responseEnd } from '../support/processes/stream-end.ts'
import { LONG_WAIT } from '../support/harness/wait.ts'
import { testFairness, testHerds } from './floods.ts'

const faults = prepareFaultFleet()
const { ask, bothAlive, open, receipts } = faults

test('a gateway that is killed mid-stream breaks the stream, and leaves no trace of it after its restart', async () => {
  const before = await receipts('cancelled')
  const stream = await open()
  // Changes of budgets are stored every 100 ms.
  await vi.waitFor(() => expect(storedReservations(faults.fleet.stateDir)).toBe(1), LONG_WAIT)
  await faults.fleet.killGateway()
  expect(await stream.end()).toBe('broken off')
  await faults.fleet.startGateway()
  await bothAlive()
  expect(await responseEnd(await ask({ max_tokens: 2 }))).toBe('done')
  // The node sends its receipt to the restarted gateway. Wait for it, so that no later test counts it.
  await until('its receipt', async () => (await receipts('cancelled')) > before || undefined)
})

test('a reset of the fleet object loses no request, no stream and no stored budget', async () => {
  const CALLS = 8
  const limits = { concurrent_requests: CALLS, tokens_per_month: 10_000 }
  const meanwhile = await faults.fleet.key(limits, 'meanwhile')
  // Rejections are counted in the object's memory only.
  await ask({}, { key: meanwhile.key })
  expect(await refusals('meanwhile')).toBe(1)
  // They must all run at once, also where one of them begins seconds later.
  const long = { max_tokens: 5_000 }
  const streams = [await open(long), await open(long)]
  const answer = ask({ ...long, stream: false })
  // Changes that are not stored yet would be lost.
  await vi.waitFor(() => expect(storedReservations(faults.fleet.stateDir)).toBe(3), LONG_WAIT)
  const broken = breakFleetObject(faults.fleet.stateDir)
  onTestFinished(broken.repair)
  const asked = Array.from({ length: CALLS }, async (_, call) => {
    await sleep(call * 60)
    return ask({ max_tokens: 4, stream: call % 2 === 0 }, { key: meanwhile.key })
  })
  // The first failed write resets it. The gateway's log names resets late, or never while callers handle their error.
  await vi.waitFor(async () => expect(await refusals('meanwhile')).toBe(0), LONG_WAIT)
  broken.repair()
  expect(await refusals('meanwhile')).toBe(0)
  const answers = await Promise.all(asked)
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  for (const [call, one] of answers.entries())
    expect(await (call % 2 === 0 ? responseEnd(one) : usedBy(one))).toBe(call % 2 === 0 ? 'done' : 4)
  expect(await usedBy(await answer)).toBe(long.max_tokens)
  expect(await Promise.all(streams.map((stream) => stream.end()))).toEqual(['done', 'done'])
  await faults.fleet.settled()
  // None of them is still counted as running.
  const again = Array.from({ length: CALLS }, () => ask({ max_tokens: 2 }, { key: meanwhile.key }))
  expect(await Promise.all((await Promise.all(again)).map(responseEnd))).toEqual(again.map(() => 'done'))
})

test('nodes keep serving while the database fails, and usage is settled after its repair', async () => {
  // Receipts of length-limited requests only: those of requests that the check of the budgets sent may still arrive.
  const before = await receipts('length')
  const broken = breakDatabase(faults.fleet.stateDir, ['models', 'receipts'])
  onTestFinished(broken.repair)
  // Longer than the silence after which a node gets no requests.
  await sleep(SILENT_MS + 500)
  for (let turn = 0; turn < 4; turn += 1) expect(await responseEnd(await ask({ max_tokens: 2 }))).toBe('done')
  broken.repair()
  await faults.fleet.settled()
  expect(await receipts('length')).toBe(before + 4)
})

test('while keys cannot be looked up requests get 503 and streams go on, and afterwards keys are judged correctly', async () => {
  const unused = (await faults.fleet.key()).key
  const unknown = `${unused.slice(0, -6)}abcdef`
  const stream = await open({ max_tokens: 3_000 })
  const broken = corruptKeys(faults.fleet.stateDir)
  onTestFinished(broken.repair)
  // Longer than a looked-up key is trusted.
  await sleep(600)
  for (const key of [faults.key, unused, unknown]) {
    const answer = await ask({ max_tokens: 2 }, { key })
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '5'])
    expect(((await answer.json()) as ErrorBody).error.code).toBe('service_unavailable')
  }
  expect(await stream.end()).toBe('done')
  broken.repair()
  for (const key of [faults.key, unused])
    expect(await responseEnd(await ask({ max_tokens: 2 }, { key }))).toBe('done')
  expect((await ask({ max_tokens: 2 }, { key: unknown })).status).toBe(401)
})

testHerds(faults, false)

testFairness(faults)

testNoRequestIsLeft(faults)

/** Returns the rejected requests of a tenant, which the fleet object counts in memory. */
async function refusals(tenant: string): Promise<number> {
  const metrics = await faults.fleet.tenantMetrics(tenant)
  return sumMetric(metrics, 'copal_requests_refused_total')
}

/** Returns the completion tokens of a response. */
async function usedBy(answer: Response): Promise<number> {
  return ((await answer.json()) as { usage: { completion_tokens: number } }).usage.completion_tokens
}
