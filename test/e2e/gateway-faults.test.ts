/** What users notice when the gateway, its objects or its database fail, or are flooded: nodes with the tiny model go on. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { breakDatabase } from '../support/break-database.ts'
import { CONCURRENT, prepareFaults, testNothingIsLeft } from '../support/faults.ts'
import { until } from '../support/service.ts'
import { endOf } from '../support/stream-end.ts'

const faults = prepareFaults()
const { ask, bothAlive, open, receipts } = faults

test('a gateway that dies mid-stream breaks the stream, and nothing of it is left when it is back', async () => {
  const before = await receipts('cancelled')
  const stream = await open()
  // What a budget lost in the last 100 ms is not stored yet.
  await sleep(500)
  await faults.fleet.killGateway()
  expect(await stream.end()).toBe('broken off')
  await faults.fleet.startGateway()
  await bothAlive()
  expect(await endOf(await ask({ max_tokens: 2 }))).toBe('done')
  // Its node tells the gateway that is back, and no later test may count it.
  await until('its receipt', async () => (await receipts('cancelled')) > before || undefined, 30_000)
})

test('a database that fails stops no node, and what was used meanwhile is settled afterwards', async () => {
  // Not of what asked for the budget after the test before, which its nodes refused: that may be told later.
  const before = await receipts('length')
  const broken = breakDatabase(faults.fleet.stateDir, ['models', 'receipts'])
  onTestFinished(broken.mend)
  // Longer than a node may be silent.
  await sleep(2_500)
  for (let turn = 0; turn < 4; turn += 1) expect(await endOf(await ask({ max_tokens: 2 }))).toBe('done')
  broken.mend()
  await faults.fleet.settled()
  expect(await receipts('length')).toBe(before + 4)
})

test('a thundering herd on one prefix is answered, by all nodes', async () => {
  const prompt = 'the same long prefix of everybody, '.repeat(12)
  const answers = await Promise.all(
    Array.from({ length: CONCURRENT }, () => ask({ prompt, max_tokens: 8, stream: false })),
  )
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  const texts = await Promise.all(answers.map((answer) => answer.json()))
  expect(new Set(texts.map(textOf)).size).toBe(1)
  expect(new Set(answers.map(({ headers }) => headers.get('x-copal-node'))).size).toBe(2)
})

testNothingIsLeft(faults)

function textOf(answer: unknown): string | undefined {
  return (answer as { choices: { text: string }[] }).choices[0]?.text
}
