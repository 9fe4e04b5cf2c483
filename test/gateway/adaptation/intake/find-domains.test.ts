/** Tests how the domains of texts are found that name none: classified, clustered, proposed and accepted. */
import { env } from 'cloudflare:workers'
import {
  createExecutionContext,
  createMessageBatch,
  getQueueResult,
  runInDurableObject,
} from 'cloudflare:test'
import { beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { loadClassifier } from '../../../../gateway/src/adaptation/intake/classifier-store.ts'
import { findDomains } from '../../../../gateway/src/adaptation/intake/find-domains.ts'
import { consumeSamples } from '../../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { SAMPLE_QUEUE } from '../../../../gateway/src/adaptation/sampling/sample-queue.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertDomain, listProposals } from '../../../../gateway/src/storage/db/queries/discovery-queries.ts'
import { listDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { sumTokensUnder } from '../../../../gateway/src/storage/db/queries/trigger-queries.ts'
import { UNASSIGNED } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { receipts } from '../../../../gateway/src/storage/db/schema/usage.ts'
import {
  startDescribingNode,
  textOfKind,
  type DescribingNode,
  type Kind,
} from '../../support/doubles/describing-node.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'
import { createKey, receiptOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { storedTexts } from '../../support/state/reservoir-state.ts'

const MODEL = { id: 'tiny', baseSha256: 'a'.repeat(64) }
const db = openDatabase(env.DB)
const reservoir = (domain: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))

let node: DescribingNode
let key: string
let nextRequest = 0

beforeAll(async () => {
  node = await startDescribingNode(MODEL.id)
  key = (await createKey({ tenant: 'acme', discoverDomains: true, sampling: 'always' })).id
  await consume([...samples('law', 20, { domain: 'legal' }), ...samples('code', 20, { domain: 'software' })])
})

beforeEach(() => node.heartbeat())

const deps = () => testDeps({ nodeFetch: (url, init) => node.nodeFetch(url, init) })

/** Returns a message with a text of a kind, of a conversation of its own. */
function sample(kind: Kind, changes: object = {}) {
  const number = nextRequest++
  return {
    requestId: `req_${number}`,
    keyId: key,
    tenant: 'acme',
    conversation: `conversation ${number}`,
    side: number % 4 === 0 ? 'holdout' : 'pool',
    consentVersion: 1,
    model: MODEL.id,
    domain: 'default',
    text: textOfKind(kind, number),
    ...changes,
  }
}

const samples = (kind: Kind, count: number, changes: object = {}) =>
  Array.from({ length: count }, () => sample(kind, changes))
const unnamed = (kind: Kind, changes: object = {}) => sample(kind, { discover: true, ...changes })

async function consume(bodies: readonly object[], attempts = 1) {
  await node.heartbeat()
  const retried: string[] = []
  for (let from = 0; from < bodies.length; from += 32) {
    const messages = bodies.slice(from, from + 32).map((body, index) => ({
      id: `m${from + index}`,
      timestamp: new Date(),
      attempts,
      body,
    }))
    const batch = createMessageBatch(SAMPLE_QUEUE.queue, messages)
    await consumeSamples(deps(), batch)
    const { retryMessages } = await getQueueResult(batch, createExecutionContext())
    retried.push(...retryMessages.map(({ msgId }) => msgId))
  }
  return retried
}

async function countTexts(domain: string): Promise<number> {
  return (await storedTexts(domain)).length
}

/** Returns the domain that has a text now. */
async function domainOf({ text }: { text: string }): Promise<string | undefined> {
  for (const domain of [UNASSIGNED, 'default', 'private', ...(await listDomains(db)).map(({ name }) => name)])
    if ((await storedTexts(domain)).includes(text)) return domain
  return undefined
}

async function sort(message: { text: string }) {
  await consume([message])
  return domainOf(message)
}

test('without a classifier texts wait for one, no node is asked, and short ones go to the default of the key', async () => {
  const short = unnamed('law', { text: 'Thank you!' })
  expect(await sort(short)).toBe('default')
  expect(await sort(unnamed('law'))).toBe(UNASSIGNED)
  expect(node.calls).toEqual([])
})

test('the classifier is trained on the texts of named domains and sorts by what a node describes', async () => {
  await findDomains(deps())
  expect((await loadClassifier(deps(), MODEL))?.row).toMatchObject({
    version: 1,
    domains: ['legal', 'software'],
  })
  node.calls = []
  expect(await sort(unnamed('law'))).toBe('legal')
  expect(await sort(unnamed('code'))).toBe('software')
  expect(node.calls.map(({ length }) => length)).toEqual([1, 1])
  expect(await sort(unnamed('recipe'))).toBe(UNASSIGNED)
  // Found texts are no examples: the classifier does not learn from itself.
  const { described } = await reservoir('legal').textsToDescribe({
    baseSha256: MODEL.baseSha256,
    want: 100,
    limit: 100,
  })
  expect(described).toBe((await reservoir('legal').listDescribed(MODEL.baseSha256, 100)).length)
  expect(described).toBeLessThan(await countTexts('legal'))
})

test('the background is described by the next run, and the classifier is trained against it and rejects what is like it', async () => {
  expect((await loadClassifier(deps(), MODEL))?.classifier.background).toBeNull()
  await findDomains(deps())
  const stored = await loadClassifier(deps(), MODEL)
  expect(stored?.row).toMatchObject({ version: 2, domains: ['legal', 'software'] })
  expect(stored?.classifier.background).not.toBeNull()
  expect(await sort(unnamed('law'))).toBe('legal')
  expect(await sort(unnamed('code'))).toBe('software')
  const other = 'We walked along the shore until it was dark, and nobody spoke of the letter. '
  expect(await sort(unnamed('law', { text: other.repeat(4) }))).toBe(UNASSIGNED)
})

test('the found domain reaches the receipts of requests, whichever comes first, however often samples are delivered', async () => {
  const [before, after, unknown] = [unnamed('law'), unnamed('code'), unnamed('recipe')]
  const settle = ({ requestId }: { requestId: string }) =>
    insertReceipts(db, 'node-1', [receiptOf(requestId, { account: key })], 'node', Date.now())
  const domains = async () => {
    const stored = await db.select().from(receipts)
    return [before, after, unknown].map(
      (message) => stored.find(({ requestId }) => requestId === message.requestId)?.domain,
    )
  }
  await settle(before)
  await consume([before, after, unknown])
  await consume([unknown, after, before])
  await settle(after)
  await settle(unknown)
  expect(await domains()).toEqual(['legal', 'software', 'default'])
  const tokens = await sumTokensUnder(db, MODEL.id, [0])
  expect(Object.fromEntries(tokens)).toEqual({ default: 15, legal: 15, software: 15 })
})

test('samples whose found domains cannot be stored are delivered again', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  const message = unnamed('law')
  await env.DB.exec('ALTER TABLE request_domains RENAME TO request_domains_away')
  const retried = await consume([message])
  await env.DB.exec('ALTER TABLE request_domains_away RENAME TO request_domains')
  warn.mockRestore()
  expect(retried).toHaveLength(1)
  expect(await domainOf(message)).toBeUndefined()
  expect(await sort(message)).toBe('legal')
})

test('nothing changes while nothing is new: no version, no call of the node', async () => {
  await findDomains(deps())
  node.calls = []
  await findDomains(deps())
  expect(node.calls).toEqual([])
  expect((await loadClassifier(deps(), MODEL))?.row.version).toBe(2)
})

test('while no node responds samples are retried, and at the last attempt their n-grams decide', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  node.isAway = true
  onTestFinished(() => {
    node.isAway = false
    warn.mockRestore()
  })
  const [law, named] = [unnamed('law'), sample('law', { domain: 'legal' })]
  expect(await consume([law, named])).toEqual(['m0'])
  expect(await domainOf(named)).toBe('legal')
  expect(await domainOf(law)).toBeUndefined()
  expect(await consume([law], SAMPLE_QUEUE.retries + 1)).toEqual([])
  expect(await domainOf(law)).toBe('legal')
})

test('a text goes into no domain that its key may not use, or that belongs to another tenant', async () => {
  const limited = await createKey({ tenant: 'acme', allowedDomains: ['default', 'software'] })
  expect(await sort(unnamed('law', { keyId: limited.id }))).toBe('default')
  expect(await sort(unnamed('code', { keyId: limited.id }))).toBe('software')
  // It may use no domain that is found later, so its texts wait for none.
  expect(await sort(unnamed('sport', { keyId: limited.id }))).toBe('default')
  const other = await createKey({ tenant: 'globex', discoverDomains: true })
  await env.DB.prepare(`UPDATE domains SET owner = 'acme' WHERE name = 'legal'`).run()
  expect(await sort(unnamed('law', { keyId: other.id, tenant: 'globex' }))).toBe('default')
  expect(await sort(unnamed('law'))).toBe('legal')
  await env.DB.prepare(`UPDATE domains SET owner = NULL WHERE name = 'legal'`).run()
})

test('texts that fit nowhere become a proposal; accepted by the policy, a domain that keeps their sides and gets later ones', async () => {
  await consume(samples('recipe', 30, { discover: true }))
  await findDomains(deps())
  const [proposal] = await listProposals(db, { state: 'proposed' })
  expect(proposal?.texts).toBeGreaterThan(24)
  expect(proposal?.terms.join(' ')).toMatch(
    /butter|flour|oven|simmer|garlic|whisk|tablespoon|pepper|dough|roast/,
  )
  const sides = (domain: string) =>
    runInDurableObject(reservoir(domain), (_instance, { storage }) =>
      storage.sql
        .exec<{ text: string; side: string }>(
          `SELECT text, side FROM texts WHERE text LIKE '%butter%' ORDER BY text`,
        )
        .toArray(),
    )
  const before = await sides(UNASSIGNED)
  // More of the kind: the proposal stays the same one, and the local policy accepts 48 texts.
  await consume(samples('recipe', 24, { discover: true }))
  await findDomains(deps())
  const accepted = await listProposals(db, { state: 'accepted' })
  expect(accepted).toMatchObject([{ id: proposal?.id }])
  const found = accepted[0]?.domain ?? ''
  expect((await listDomains(db)).find(({ name }) => name === found)).toMatchObject({ owner: 'acme' })
  const after = await sides(found)
  for (const text of before) expect(after).toContainEqual(text)
  expect(await sides(UNASSIGNED)).toEqual([])
  const stored = await loadClassifier(deps(), MODEL)
  expect(stored?.row).toMatchObject({ version: 3, domains: expect.arrayContaining([found]) })
  expect(stored?.classifier.background).not.toBeNull()
  expect(await sort(unnamed('recipe'))).toBe(found)
})

test('another isolate reads the classifier from storage, and other dense weights need another one', async () => {
  // Another object for the same bucket, as another isolate has: classifiers are cached by it.
  const artifacts = new Proxy(env.ARTIFACTS, {
    get(bucket, name) {
      const value: unknown = Reflect.get(bucket, name)
      return typeof value === 'function' ? (value.bind(bucket) as unknown) : value
    },
  })
  const stored = await loadClassifier({ db, artifacts }, MODEL)
  expect(stored?.classifier.domains).toHaveLength(3)
  const changed = { ...MODEL, baseSha256: 'b'.repeat(64) }
  expect(await loadClassifier({ db, artifacts }, changed)).toBeUndefined()
  await env.DB.prepare(`UPDATE models SET base_sha256 = ? WHERE id = 'tiny'`).bind(changed.baseSha256).run()
  node.calls = []
  await findDomains(deps())
  expect(node.calls.length).toBeGreaterThan(0)
  expect((await loadClassifier(deps(), changed))?.row.version).toBe(4)
  await env.DB.prepare(`UPDATE models SET base_sha256 = ? WHERE id = 'tiny'`).bind(MODEL.baseSha256).run()
  await findDomains(deps())
})

test('an interrupted acceptance is finished by the next run', async () => {
  await consume(samples('sport', 30, { discover: true }))
  await findDomains(deps())
  const [proposal] = await listProposals(db, { state: 'proposed' })
  await env.DB.prepare(`UPDATE domain_proposals SET state = 'accepted', domain = 'sports' WHERE id = ?`)
    .bind(proposal?.id)
    .run()
  await findDomains(deps())
  expect(await countTexts('sports')).toBe(proposal?.texts)
  expect((await listDomains(db)).find(({ name }) => name === 'sports')?.owner).toBe('acme')
  expect(await insertDomain(db, { name: 'sports', createdAt: 0, owner: null })).toBe(false)
})

test('waiting texts of a kind that is a domain already do not become a second one', async () => {
  const siblings = samples('recipe', 30).map(({ requestId, keyId, tenant, conversation, text }) => ({
    requestId,
    keyId,
    tenant,
    conversation,
    consentVersion: 1,
    text,
    atMs: Date.now(),
  }))
  await reservoir(UNASSIGNED).offer(siblings)
  const before = await listProposals(db)
  await findDomains(deps())
  expect(Object.keys(await reservoir(UNASSIGNED).proposalSizes())).toEqual([''])
  expect(await listProposals(db)).toHaveLength(before.length)
})

test('texts of fewer than 48 tokens go to the default of the key, and of fewer than 60 are in no proposal', async () => {
  const cut = (kind: Kind, words: number) => {
    const message = unnamed(kind)
    return { ...message, text: message.text.split(' ').slice(0, words).join(' ') }
  }
  const short = cut('law', 23)
  expect(await sort(short)).toBe('default')
  const medium = Array.from({ length: 30 }, () => cut('sport', 28))
  await reservoir(UNASSIGNED).offer(
    medium.map(({ requestId, keyId, tenant, text }) => ({
      requestId,
      keyId,
      tenant,
      conversation: requestId,
      consentVersion: 1,
      text,
      atMs: Date.now(),
    })),
  )
  const before = await listProposals(db)
  await findDomains(deps())
  expect(await listProposals(db)).toHaveLength(before.length)
  // The texts were grouped already, so the next run does not group them again.
  let groupings = 0
  const counting = (name: string) =>
    new Proxy(deps().reservoir(name), {
      get(object, method) {
        if (method === 'propose') groupings += 1
        return Reflect.get(object, method, object) as unknown
      },
    })
  await findDomains({ ...deps(), reservoir: counting })
  expect(groupings).toBe(0)
})

test('a model whose node rejects texts does not keep the others from finding domains', async () => {
  const errors = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => errors.mockRestore())
  const broken = { id: 'broken', baseSha256: 'c'.repeat(64), contextLength: 2048, parameters: 1000 }
  await sendHeartbeat({ id: 'node-2', url: 'http://127.0.0.1:2' }, broken.id, { model: broken })
  const rejection = { error: { code: 'invalid_request', message: 'It reads no texts.' } }
  const nodeFetch: typeof node.nodeFetch = async (url, init) =>
    url.port === '2' ? Response.json(rejection, { status: 400 }) : node.nodeFetch(url, init)
  await consume(samples('sport', 20, { domain: 'athletics' }))
  await findDomains({ ...deps(), nodeFetch })
  expect((await loadClassifier(deps(), MODEL))?.row.domains).toContain('athletics')
  expect(errors.mock.calls.flat().join(' ')).toContain("'broken'")
})
