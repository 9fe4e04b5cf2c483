/** What users notice when the gateway, its objects or its database fail, or are flooded: nodes with the tiny model go on. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ErrorBody } from '@copal/shared/errors.ts'
import { expect, onTestFinished, test, vi } from 'vitest'
import { breakDatabase, corruptKeys } from '../support/faults/break-database.ts'
import { breakFleetObject, storedReservations } from '../support/faults/break-fleet-object.ts'
import { prepareFaultFleet, testNoRequestIsLeft } from '../support/faults/fault-fleet.ts'
import { sumMetric } from '../support/processes/metrics.ts'
import { until } from '../support/processes/service.ts'
import { responseEnd } from '../support/processes/stream-end.ts'
import { WAIT } from '../support/harness/wait.ts'
import { testFairness, testHerds } from './floods.ts'

const faults = prepareFaultFleet()
const { ask, bothAlive, open, receipts } = faults

test('a gateway that dies mid-stream breaks the stream, and nothing of it is left when it is back', async () => {
  const before = await receipts('cancelled')
  const stream = await open()
  // What a budget lost in the last 100 ms is not stored yet.
  await vi.waitFor(() => expect(storedReservations(faults.fleet.stateDir)).toBe(1), WAIT)
  await faults.fleet.killGateway()
  expect(await stream.end()).toBe('broken off')
  await faults.fleet.startGateway()
  await bothAlive()
  expect(await responseEnd(await ask({ max_tokens: 2 }))).toBe('done')
  // Its node tells the gateway that is back, and no later test may count it.
  await until('its receipt', async () => (await receipts('cancelled')) > before || undefined, 30_000)
})

test('a fleet object that is reset loses neither requests nor streams, nor what it has stored of budgets', async () => {
  const CALLS = 8
  const limits = { concurrent_requests: CALLS, tokens_per_month: 10_000 }
  const meanwhile = await faults.fleet.key(limits, 'meanwhile')
  // What is counted of refusals is in the object's memory alone.
  await ask({}, { key: meanwhile.key })
  expect(await refusals('meanwhile')).toBe(1)
  const long = { max_tokens: 3_000 }
  const streams = [await open(long), await open(long)]
  const answer = ask({ ...long, stream: false })
  // What is not stored yet is lost.
  await vi.waitFor(() => expect(storedReservations(faults.fleet.stateDir)).toBe(3), WAIT)
  const broken = breakFleetObject(faults.fleet.stateDir)
  onTestFinished(broken.repair)
  const asked = Array.from({ length: CALLS }, async (_, call) => {
    await sleep(call * 60)
    return ask({ max_tokens: 4, stream: call % 2 === 0 }, { key: meanwhile.key })
  })
  await vi.waitFor(() => expect(faults.fleet.gatewayLog()).toContain('Durable Object was reset'), WAIT)
  broken.repair()
  expect(await refusals('meanwhile')).toBe(0)
  const answers = await Promise.all(asked)
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  for (const [call, one] of answers.entries())
    expect(await (call % 2 === 0 ? responseEnd(one) : usedBy(one))).toBe(call % 2 === 0 ? 'done' : 4)
  expect(await usedBy(await answer)).toBe(3_000)
  expect(await Promise.all(streams.map((stream) => stream.end()))).toEqual(['done', 'done'])
  await faults.fleet.settled()
  // None of them is still counted as running.
  const again = Array.from({ length: CALLS }, () => ask({ max_tokens: 2 }, { key: meanwhile.key }))
  expect(await Promise.all((await Promise.all(again)).map(responseEnd))).toEqual(again.map(() => 'done'))
})

test('a database that fails stops no node, and what was used meanwhile is settled afterwards', async () => {
  // Not of what asked for the budget after the test before, which its nodes refused: that may be told later.
  const before = await receipts('length')
  const broken = breakDatabase(faults.fleet.stateDir, ['models', 'receipts'])
  onTestFinished(broken.repair)
  // Longer than a node may be silent.
  await sleep(2_500)
  for (let turn = 0; turn < 4; turn += 1) expect(await responseEnd(await ask({ max_tokens: 2 }))).toBe('done')
  broken.repair()
  await faults.fleet.settled()
  expect(await receipts('length')).toBe(before + 4)
})

test('while keys cannot be looked up none is refused, streams go on, and nothing wrong is remembered afterwards', async () => {
  const unused = (await faults.fleet.key()).key
  const unknown = `${unused.slice(0, -6)}abcdef`
  const stream = await open({ max_tokens: 3_000 })
  const broken = corruptKeys(faults.fleet.stateDir)
  onTestFinished(broken.repair)
  // Longer than a key is trusted.
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

/** Requests of a tenant that were refused, as long as the fleet object remembers. */
async function refusals(tenant: string): Promise<number> {
  const metrics = await faults.fleet.admin<string>('GET', '/metrics')
  return sumMetric(metrics, 'copal_requests_refused_total', `tenant="${tenant}"`)
}

/** Tokens of an answer. */
async function usedBy(answer: Response): Promise<number> {
  return ((await answer.json()) as { usage: { completion_tokens: number } }).usage.completion_tokens
}
