import { createMessageBatch } from 'cloudflare:test'
import { expect, test } from 'vitest'
import type { ChatMessage } from '@copal/shared/wire/chat.ts'
import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { consumeSamples } from '../../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { REDACTION_VERSION } from '../../../../gateway/src/adaptation/redaction/redact.ts'
import { offerSamples } from '../../../../gateway/src/adaptation/sampling/offer-samples.ts'
import { newMessage, openingOf } from '../../../../gateway/src/adaptation/sampling/sample-text.ts'
import type { ClientText } from '../../../../gateway/src/contracts/generation.ts'
import type { StoredText } from '../../../../gateway/src/contracts/reservoir-object.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'

const key = (id: string) => ({ id, tenant: `tenant of ${id}`, consentVersion: 2 })
const alone = (text: string): ClientText => ({ text, opening: text })

/** Offers the texts of one request and returns the messages that reach the queue. */
async function queued(
  texts: readonly ClientText[],
  {
    keyId = 'key_1',
    requestId = 'req_1',
    domain = 'offered',
    keyPepper = 'p'.repeat(32),
    batches = [] as number[],
  } = {},
): Promise<SampleMessage[]> {
  const messages: SampleMessage[] = []
  const work: Promise<unknown>[] = []
  const samples = {
    sendBatch: async (batch: Iterable<MessageSendRequest<SampleMessage>>) => {
      const bodies = [...batch].map(({ body }) => body)
      messages.push(...bodies)
      batches.push(bodies.length)
      // The maxima of a queue.
      expect(bodies.length).toBeLessThanOrEqual(100)
      expect(bodies.reduce((sum, body) => sum + JSON.stringify(body).length, 0)).toBeLessThan(256_000)
    },
  }
  offerSamples(
    { samples, keyPepper, recogniser: undefined, waitUntil: (pending) => work.push(pending) },
    { requestId, key: key(keyId), model: 'tiny', domain, texts },
  )
  await Promise.all(work)
  return messages
}

test('a sample names its request, key, tenant and consent version', async () => {
  const [message] = await queued([{ text: 'Write to jane@example.org.', opening: 'Hello' }])
  expect(message).toEqual({
    requestId: 'req_1',
    keyId: 'key_1',
    tenant: 'tenant of key_1',
    consentVersion: 2,
    conversation: expect.stringMatching(/^[0-9a-f]{32}$/) as string,
    side: expect.stringMatching(/^(pool|holdout)$/) as string,
    opening: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    model: 'tiny',
    domain: 'offered',
    redaction: REDACTION_VERSION,
    redactions: { email: 1 },
    text: 'Write to [email].',
  })
})

test('the texts of a request are queued together, as many at once as a queue takes', async () => {
  const batches: number[] = []
  const short = Array.from({ length: 130 }, (_, index) => alone(`text ${index}`))
  const long = Array.from({ length: 5 }, (_, index) => alone(`${index} ${'word '.repeat(4_000)}`))
  expect(await queued([...short, ...long], { batches })).toHaveLength(135)
  expect(batches).toEqual([100, 31, 2, 2])
})

test('empty texts and white space are not offered', async () => {
  expect(await queued(['', ' \n\t', '\u00a0'].map(alone))).toEqual([])
  // What is left of a text after it was truncated may be white space.
  expect(await queued([alone(`${' '.repeat(300 * 1024)}end`)])).toEqual([])
})

test('the conversation is that of a key and a first message, and the side that of the first message alone', async () => {
  const openings = Array.from({ length: 100 }, (_, index) => `opening ${index}`)
  const send = async (keyId: string, later: string) =>
    (
      await Promise.all(
        openings.map((opening) => queued([{ text: `${opening} ${later}`, opening }], { keyId })),
      )
    ).flat()
  const [one, next, other] = [await send('key_1', 'a'), await send('key_1', 'b'), await send('key_2', 'a')]
  const conversations = (messages: SampleMessage[]) => messages.map(({ conversation }) => conversation)
  const sides = (messages: SampleMessage[]) => messages.map(({ side }) => side)
  expect(conversations(next)).toEqual(conversations(one))
  expect(new Set([...conversations(one), ...conversations(other)]).size).toBe(200)
  expect(sides(next)).toEqual(sides(one))
  expect(sides(other)).toEqual(sides(one))
  const held = sides(one).filter((side) => side === 'holdout').length
  expect(Math.abs(held - 25)).toBeLessThan(4 * Math.sqrt(100 * 0.25 * 0.75))
})

test('nobody can choose a side without the secret', async () => {
  const openings = Array.from({ length: 64 }, (_, index) => alone(`opening ${index}`))
  const sidesUnder = async (keyPepper: string) =>
    (await queued(openings, { keyPepper })).map(({ side }) => side)
  expect(await sidesUnder('a'.repeat(32))).not.toEqual(await sidesUnder('b'.repeat(32)))
})

test('first messages that are stored alike, because they differ in redacted or truncated parts, are on the same side', async () => {
  // Longer than a sample may be.
  const long = 'words of a long text '.repeat(3_500)
  const messages = await queued(
    Array.from({ length: 12 }, (_, index) => [
      alone(`Write to me${index}@example.org.`),
      alone(long + index),
    ]).flat(),
  )
  const sidesOf = (start: string) =>
    messages.filter(({ text }) => text.startsWith(start)).map(({ side }) => side)
  expect(new Set(sidesOf('Write')).size).toBe(1)
  expect(new Set(sidesOf('words')).size).toBe(1)
})

test('first messages that begin with the same long instructions are on both sides', async () => {
  const instructions = 'words of a long text '.repeat(300)
  const messages = await queued(Array.from({ length: 60 }, (_, index) => alone(instructions + index)))
  const heldOut = messages.filter(({ side }) => side === 'holdout').length
  expect(heldOut).toBeGreaterThan(4)
  expect(heldOut).toBeLessThan(30)
  expect(new Set(messages.map(({ opening }) => opening)).size).toBe(60)
})

/** The requests of a chat: each has all messages before. */
function chat(userMessages: readonly string[]): ChatMessage[][] {
  const messages: ChatMessage[] = [{ role: 'system', content: 'Be brief.' }]
  return userMessages.map((content) => {
    messages.push({ role: 'user', content })
    const request = [...messages]
    messages.push({ role: 'assistant', content: 'An answer.' })
    return request
  })
}

test('of chats of three turns no text is on both sides, and no first message of a held-out text is in the pool', async () => {
  const domain = 'three-turns'
  const chats = Array.from({ length: 120 }, (_, index) => ({
    keyId: `key_${index % 3}`,
    // Every third first message is sent by two keys, and some later messages are first messages of other chats.
    messages: [
      index % 3 === 1 ? `opening ${index - 1}` : `opening ${index}`,
      index % 2 === 0 ? `opening ${(index + 61) % 120}` : `second message of ${index}`,
      index % 4 === 0 ? 'thanks' : `third message of ${index}`,
    ],
  }))
  const bodies: SampleMessage[] = []
  for (const [index, { keyId, messages }] of chats.entries()) {
    for (const [turn, request] of chat(messages).entries()) {
      const requestId = `req_${index}_${turn}`
      bodies.push(...(await queued(newMessage(request), { keyId, requestId, domain })))
    }
  }
  expect(bodies).toHaveLength(360)
  const batch = createMessageBatch(
    'copal-samples',
    bodies.map((body, index) => ({ id: String(index), timestamp: new Date(), attempts: 1, body })),
  )
  const deps = testDeps()
  await consumeSamples(deps, batch)
  const pool: StoredText[] = await deps
    .reservoir(domain)
    .take({ model: 'm', updateId: 'u', maxBytes: Infinity })
  const holdout: StoredText[] = await deps.reservoir(domain).holdout(Infinity)
  expect(pool.length).toBeGreaterThan(100)
  expect(holdout.length).toBeGreaterThan(20)
  const inPool = new Set(pool.map(({ text }) => text))
  const openingOfConversation = new Map(
    bodies.map(({ requestId, conversation }) => [
      conversation,
      openingOf(chat(chats[Number(requestId.split('_')[1])]?.messages ?? [])[0] ?? []),
    ]),
  )
  for (const { text, sources } of holdout) {
    expect(inPool).not.toContain(text)
    for (const { conversation } of sources)
      expect(inPool).not.toContain(openingOfConversation.get(conversation))
  }
})
