/** Tests on which side conversations are whose first messages differ in what only the external recogniser finds. */
import { createMessageBatch } from 'cloudflare:test'
import { expect, test } from 'vitest'
import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { consumeSamples } from '../../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { offerSamples } from '../../../../gateway/src/adaptation/sampling/offer-samples.ts'
import type { ClientText } from '../../../../gateway/src/contracts/generation.ts'
import type { Recogniser } from '../../../../gateway/src/contracts/recogniser.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'

const NAMES = [
  'Anna',
  'Berta',
  'Clara',
  'Dora',
  'Emma',
  'Frida',
  'Greta',
  'Hanna',
  'Ida',
  'Jana',
  'Karla',
  'Lena',
]
/** Finds the names above. */
const recogniser: Recogniser = (texts) =>
  Promise.resolve(
    texts.map((text) =>
      NAMES.flatMap((name) => {
        const start = text.indexOf(name)
        return start < 0 ? [] : { start, end: start + name.length, label: 'name' as const }
      }),
    ),
  )

/** Queues the texts of one request, and returns its messages. */
async function queued(domain: string, text: ClientText, requestId: string, deps = testDeps({ recogniser })) {
  const messages: SampleMessage[] = []
  const work: Promise<unknown>[] = []
  const samples = {
    sendBatch: (batch: Iterable<MessageSendRequest<SampleMessage>>) => {
      for (const { body } of batch) messages.push(body)
      return Promise.resolve()
    },
  }
  const key = { id: 'key_1', tenant: 'tenant', consentVersion: 0 }
  const { keyPepper, recogniser: own } = deps
  offerSamples(
    { samples, keyPepper, recogniser: own, waitUntil: (pending) => work.push(pending) },
    { requestId, key, model: 'tiny', domain, texts: [text] },
  )
  await Promise.all(work)
  return messages
}

async function consume(bodies: readonly SampleMessage[], deps = testDeps({ recogniser })): Promise<void> {
  const messages = bodies.map((body) => ({ id: body.requestId, timestamp: new Date(), attempts: 1, body }))
  await consumeSamples(deps, createMessageBatch('copal-samples', messages))
}

/** The texts of a domain by side. */
async function sidesOf(domain: string) {
  const reservoir = testDeps().reservoir(domain)
  const pool = await reservoir.take({ model: 'm', updateId: 'u', maxBytes: Infinity })
  const holdout = await reservoir.holdout(Infinity)
  return [pool, holdout].map((texts) => texts.map(({ text }) => text).toSorted())
}

const openingOf = (name: string) => `My name is ${name}, and I have a question about my contract.`
const nextOf = (name: string) => `Question ${NAMES.indexOf(name)}: ${'how does this clause work, '.repeat(3)}`

test('conversations whose first messages are stored alike are on one side, with all that follows', async () => {
  const bodies = await Promise.all(
    NAMES.flatMap((name) => [
      queued('named-openings', { text: openingOf(name), opening: openingOf(name) }, `first-${name}`),
      queued('named-openings', { text: nextOf(name), opening: openingOf(name) }, `next-${name}`),
    ]),
  )
  const sides = new Set(bodies.flat().map(({ side }) => side))
  expect(sides.size).toBe(2)
  await consume(bodies.flat())
  const texts = [openingOf('[name]'), ...NAMES.map(nextOf)].toSorted()
  const stored = await sidesOf('named-openings')
  expect(stored.flat().toSorted()).toEqual(texts)
  expect(stored.map((side) => side.length)).toContain(0)
})

test('a conversation that was stored before there was a recogniser does not get texts on the other side', async () => {
  const before = testDeps({ recogniser: undefined })
  const first = await Promise.all(
    NAMES.map((name) =>
      queued('named-before', { text: openingOf(name), opening: openingOf(name) }, `first-${name}`, before),
    ),
  )
  await consume(first.flat(), before)
  const next = await Promise.all(
    NAMES.map((name) =>
      queued('named-before', { text: nextOf(name), opening: openingOf(name) }, `next-${name}`),
    ),
  )
  await consume(next.flat())
  const [pool = [], holdout = []] = await sidesOf('named-before')
  const nameOf = (text: string) =>
    NAMES.find((name) => text === openingOf(name) || text === nextOf(name)) ?? ''
  const inPool = new Set(pool.map(nameOf))
  expect(holdout.map(nameOf).filter((name) => inPool.has(name))).toEqual([])
  // Conversations of the side that is theirs now go on.
  expect([...pool, ...holdout].filter((text) => text.startsWith('Question')).length).toBeGreaterThan(0)
})

test('a first message goes with a text only to a recogniser, and only where both fit into a message', async () => {
  const text = { text: 'and this?', opening: 'Explain clause 7 to jane@example.org.' }
  expect(await queued('sent', text, 'r')).toMatchObject([{ openingText: 'Explain clause 7 to [email].' }])
  const [unread] = await queued('sent', text, 'r', testDeps({ recogniser: undefined }))
  expect(unread).not.toHaveProperty('openingText')
  const long = 'long words '.repeat(5_900)
  const [large] = await queued('sent', { text: `${long}.`, opening: long }, 'r')
  expect(large).not.toHaveProperty('openingText')
  expect(JSON.stringify(large).length).toBeLessThan(128_000)
})
