/** Tests that texts of a domain that requests name are described before an update takes them, so that outliers are set aside. */
import { env } from 'cloudflare:workers'
import { createMessageBatch } from 'cloudflare:test'
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { consumeSamples } from '../../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { SAMPLE_QUEUE } from '../../../../gateway/src/adaptation/sampling/sample-queue.ts'
import { describeDue } from '../../../../gateway/src/adaptation/triggers/describe-due.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import { describeTexts } from '../../../../gateway/src/fleet/client/describe-texts.ts'
import { readDataset } from '../../../../gateway/src/storage/artifacts/datasets.ts'
import { createUpdate as updateRequest } from '@copal/shared/wire/admin.ts'
import { createRandom } from '../../../support/harness/random.ts'
import {
  startDescribingNode,
  textOfKind,
  type DescribingNode,
} from '../../support/doubles/describing-node.ts'
import { importTexts, testDeps } from '../../support/doubles/simulated-node.ts'
import { createKey } from '../../support/requests/gateway-requests.ts'

let node: DescribingNode
let model: string
let domain: string
let next = 0

const deps = (changes = {}) => testDeps({ nodeFetch: (url, init) => node.nodeFetch(url, init), ...changes })
const reservoir = () => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))

/** Letters without sense, which the node finds improbable. */
function randomText(seed: number): string {
  const random = createRandom(seed)
  return Array.from({ length: 280 }, () => String.fromCodePoint(97 + Math.floor(random() * 26))).join('')
}

/** Has the queue's consumer store texts of requests of one key that name the domain. */
async function send(name: string, count: number, textOf: (number: number) => string): Promise<void> {
  const { id } = await createKey({ name: `${name} ${domain}`, tenant: 'acme', sampling: 'always' })
  const messages = Array.from({ length: count }, (_, index) => ({
    id: `${name} ${index}`,
    timestamp: new Date(),
    attempts: 1,
    body: {
      requestId: `req_${next}`,
      keyId: id,
      tenant: 'acme',
      conversation: `conversation ${next}`,
      side: index % 3 === 0 ? 'holdout' : 'pool',
      consentVersion: 1,
      model,
      domain,
      text: textOf(next++),
    },
  }))
  await consumeSamples(deps(), createMessageBatch(SAMPLE_QUEUE.queue, messages))
}

async function sendOrdinaryAndRandom(): Promise<void> {
  for (const name of ['one', 'two', 'three']) await send(name, 60, (number) => textOfKind('law', number))
  await send('spoiler', 60, randomText)
}

/** Starts an update without advancing it. */
const start = () =>
  createUpdate(deps(), updateRequest.parse({ model, domains: [domain], samples: 32, length: 64 }))

async function takenTexts(datasets: readonly string[] | null | undefined): Promise<string[]> {
  const texts = await Promise.all((datasets ?? []).map((hash) => readDataset(deps(), hash)))
  return texts.flatMap((each) => (each ?? []).map(({ text }) => text))
}
const isRandom = (text: string) => !text.includes(' ')

beforeEach(async () => {
  // Domains are of all models.
  for (const table of ['domains', 'models']) await env.DB.exec(`DELETE FROM ${table}`)
  model = `losses-${next}`
  domain = `${model}-domain`
  node = await startDescribingNode(model)
})

test('random tokens with the domain in a header are set aside by an update that takes texts of the domain', async () => {
  await sendOrdinaryAndRandom()
  expect(node.calls).toEqual([])
  const { id } = await start()
  // A heartbeat waits for the call that has texts described, and takes none before.
  expect(await advanceUpdate(deps({ isHeartbeat: true }), id)).toMatchObject({ state: 'collecting' })
  const update = await advanceUpdate(deps(), id)
  expect(update?.state).toBe('calibrating')
  const taken = await takenTexts(update?.datasets)
  expect(taken.length).toBeGreaterThan(25)
  expect(taken.filter(isRandom)).toEqual([])
  const texts = (await reservoir().holdout(1e9)).map(({ text }) => text)
  expect(texts.length).toBeGreaterThan(30)
  expect(texts.filter(isRandom)).toEqual([])
  expect((await reservoir().stats(model)).reviewSamples).toBeGreaterThanOrEqual(20)
  // Held-out texts are no examples of the classifier.
  const held = new Set(texts)
  const examples = await reservoir().listDescribed('a'.repeat(64), 1_000)
  expect(examples.filter(({ text }) => held.has(text))).toEqual([])
})

test('the task of every minute has the texts of domains described that are nearly due, and the update asks no more', async () => {
  await send('few', 20, (number) => textOfKind('law', number))
  await describeDue(deps())
  expect(node.calls).toEqual([])
  await sendOrdinaryAndRandom()
  for (let minute = 0; minute < 3; minute++) await describeDue(deps())
  const described = node.calls.flat()
  expect(new Set(described).size).toBe(described.length)
  expect(described.filter(isRandom).length).toBeGreaterThanOrEqual(20)
  node.calls = []
  const { id } = await start()
  const update = await advanceUpdate(deps(), id)
  expect((await takenTexts(update?.datasets)).filter(isRandom)).toEqual([])
  expect(node.calls).toEqual([])
})

test('while no node answers an update goes on, and the share of the key is the bound', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  await sendOrdinaryAndRandom()
  const { id } = await start()
  node.isAway = true
  const update = await advanceUpdate(deps(), id)
  const taken = await takenTexts(update?.datasets)
  expect(update?.state).toBe('calibrating')
  expect(warn).toHaveBeenCalledOnce()
  const random = taken.filter(isRandom).length
  expect(random).toBeGreaterThan(0)
  expect(random / taken.length).toBeLessThanOrEqual(0.3)
})

test('a node is not asked about texts that an operator imported, and after a minute not at all', async () => {
  await importTexts(domain)
  await advanceUpdate(deps(), (await start()).id)
  expect(node.calls).toEqual([])
  await env.DB.exec(`UPDATE updates SET finished_at = 1, state = 'cancelled' WHERE model = '${model}'`)
  await sendOrdinaryAndRandom()
  const update = await advanceUpdate(deps({ nowMs: () => Date.now() + 61_000 }), (await start()).id)
  expect(update?.state).toBe('calibrating')
  expect(node.calls).toEqual([])
})

test('two events that have the same texts described in one millisecond both get descriptions', async () => {
  const [texts, nowMs] = [[textOfKind('law', 1)], Date.now()]
  const both = Array.from({ length: 2 }, () => describeTexts(deps({ nowMs: () => nowMs }), model, texts))
  const [one, other] = await Promise.all(both)
  expect(one).toHaveLength(1)
  expect(other).toEqual(one)
})
