import { env } from 'cloudflare:workers'
import { createMessageBatch, getQueueResult, createExecutionContext } from 'cloudflare:test'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import {
  ensureDomains,
  forgetDomain,
  listDomains,
} from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { listTombstones } from '../../../../gateway/src/storage/db/queries/tombstone-queries.ts'
import { deleteOldTombstones } from '../../../../gateway/src/storage/retention.ts'
import { createDeps } from '../../../../gateway/src/deps.ts'
import { consumeSamples } from '../../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { SAMPLE_QUEUE } from '../../../../gateway/src/adaptation/sampling/sample-queue.ts'
import { admin } from '../../support/doubles/simulated-node.ts'
import { storedTexts } from '../../support/state/reservoir-state.ts'
import { createKey } from '../../support/requests/gateway-requests.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'

const reservoir = (domain: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))
const sample = (domain: string, index: number, text = `text ${index}`, keyId = 'key') => ({
  requestId: `req_${domain}_${index}`,
  keyId,
  model: 'tiny',
  domain,
  text,
})

async function consume(bodies: readonly unknown[], deps = createDeps(env, createExecutionContext())) {
  const messages = bodies.map((body, index) => ({
    id: `m${index}`,
    timestamp: new Date(),
    attempts: 1,
    body,
  }))
  const batch = createMessageBatch('copal-samples', messages)
  await consumeSamples(deps, batch)
  const { explicitAcks, retryMessages } = await getQueueResult(batch, createExecutionContext())
  return { acked: explicitAcks.toSorted(), retried: retryMessages.map(({ msgId }) => msgId) }
}

test('samples reach the reservoirs of their domains, which are registered', async () => {
  const result = await consume([sample('mail', 0), sample('mail', 1), sample('code', 0)])
  expect(result).toEqual({ acked: ['m0', 'm1', 'm2'], retried: [] })
  expect(await storedTexts('mail')).toEqual(['text 0', 'text 1'])
  expect(await storedTexts('code')).toEqual(['text 0'])
  expect((await listDomains(openDatabase(env.DB))).map(({ name }) => name)).toEqual(
    expect.arrayContaining(['code', 'mail']),
  )
})

test('a batch that is delivered twice changes nothing the second time', async () => {
  const bodies = Array.from({ length: 20 }, (_, index) => sample('twice', index))
  await consume(bodies)
  const before = { texts: await storedTexts('twice'), stats: await reservoir('twice').stats() }
  await consume(bodies.toReversed())
  expect({ texts: await storedTexts('twice'), stats: await reservoir('twice').stats() }).toEqual(before)
  expect(before.stats.seen).toBe(20)
})

test('messages that are not samples are dropped with a line in the log, and do not block others', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  const result = await consume([
    null,
    'text',
    { ...sample('poison', 0), domain: 'Not a domain' },
    sample('poison', 1),
  ])
  expect(result).toEqual({ acked: ['m0', 'm1', 'm2', 'm3'], retried: [] })
  expect(await storedTexts('poison')).toHaveLength(1)
  expect(warn).toHaveBeenCalledTimes(3)
  warn.mockRestore()
})

test('only the samples of a failing reservoir are retried', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  const deps = createDeps(env, createExecutionContext())
  const failing: typeof deps = {
    ...deps,
    reservoir: (domain) => {
      if (domain === 'away') throw new Error('Durable Object is overloaded')
      return deps.reservoir(domain)
    },
  }
  expect(await consume([sample('away', 0), sample('here', 0)], failing)).toEqual({
    acked: ['m1'],
    retried: ['m0'],
  })
  expect(error).toHaveBeenCalledOnce()
  error.mockRestore()
  expect(await consume([sample('away', 0)])).toEqual({ acked: ['m0'], retried: [] })
  expect(await storedTexts('away')).toHaveLength(1)
})

test('failed samples are retried with growing delays, for an hour in total', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  const reservoirAway = (): never => {
    throw new Error('Durable Object is overloaded')
  }
  const attempts = Array.from({ length: 12 }, (_, index) => index + 1)
  const messages = attempts.map((attempt) => ({
    id: String(attempt),
    timestamp: new Date(),
    attempts: attempt,
    body: sample('late', attempt),
  }))
  const batch = createMessageBatch('copal-samples', messages)
  const retries = batch.messages.map((message) => vi.spyOn(message, 'retry'))
  await consumeSamples({ ...createDeps(env, createExecutionContext()), reservoir: reservoirAway }, batch)
  const delays = retries.map(({ mock }) => mock.calls[0]?.[0]?.delaySeconds ?? 0)
  expect(delays).toEqual([5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600])
  expect(delays.reduce((sum, delay) => sum + delay)).toBeGreaterThan(3_600)
})

test('samples that move to the dead-letter queue are logged with the name of that queue, but not those that come from it', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  const reservoirAway = (): never => {
    throw new Error('Durable Object is overloaded')
  }
  const deps = { ...createDeps(env, createExecutionContext()), reservoir: reservoirAway }
  const toldOf = async (queue: string, attempts: readonly number[]) => {
    const messages = attempts.map((attempt, index) => ({
      id: `m${index}`,
      timestamp: new Date(),
      attempts: attempt,
      body: sample('given-up', index),
    }))
    await consumeSamples(deps, createMessageBatch(queue, messages))
    return error.mock.calls.splice(0).map(([line]) => String(line))
  }
  const given =
    "could not be stored for an hour and were moved to the queue 'copal-samples-dead', which keeps them for four days:"
  const { queue, retries, deadLetters } = SAMPLE_QUEUE
  expect(await toldOf(queue, [retries, retries + 1, retries + 1])).toEqual([
    "1 samples of domain 'given-up' will be retried:",
    `2 samples of domain 'given-up' ${given}`,
  ])
  expect(await toldOf(queue, [retries + 1])).toEqual([`1 samples of domain 'given-up' ${given}`])
  expect(await toldOf(deadLetters, [retries + 1])).toEqual([
    "1 samples of domain 'given-up' will be retried:",
  ])
})

describe('samples that are deleted after they were queued', () => {
  const named = (domain: string, index: number, changes: object = {}) => ({
    ...sample(domain, index, `text ${index}`, 'key_stays'),
    tenant: 'stays',
    conversation: `conversation ${index}`,
    side: 'pool',
    consentVersion: 1,
    ...changes,
  })

  /** Delivers messages that were queued at a time. */
  async function deliver(bodies: readonly unknown[], queuedAt: Date, queue = 'copal-samples') {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
    const messages = bodies.map((body, index) => ({
      id: `m${index}`,
      timestamp: queuedAt,
      attempts: 1,
      body,
    }))
    const batch = createMessageBatch(queue, messages)
    await consumeSamples(createDeps(env, createExecutionContext()), batch)
    const { explicitAcks } = await getQueueResult(batch, createExecutionContext())
    const lines = warn.mock.calls.map(([line]) => String(line))
    warn.mockRestore()
    return { acked: explicitAcks.length, lines }
  }

  test.each([
    ['of a key', '?key=key_leaves', { keyId: 'key_leaves' }],
    ['of a tenant', '?tenant=leaves', { tenant: 'leaves' }],
    ['of a request', '?request=req_leaves', { requestId: 'req_leaves' }],
  ])('%s are not stored, and others are', async (_, query, changes) => {
    const domain = `late${query.replaceAll(/[?=_]/g, '-')}`
    await consume([named(domain, 0)])
    const queuedAt = new Date()
    expect((await admin('DELETE', `/domains/${domain}/samples${query}`)).status).toBe(200)
    const bodies = [named(domain, 1, changes), named(domain, 2), named(domain, 3, changes)]
    expect(await deliver(bodies, queuedAt)).toEqual({
      acked: 3,
      lines: ['Dropped 2 samples that were deleted after they had been queued.'],
    })
    expect(await storedTexts(domain)).toEqual(['text 0', 'text 2'])
    // The consumer stores later samples of the same key, but none of the same request.
    await deliver([named(domain, 4, changes)], new Date(Date.now() + 1))
    expect(await storedTexts(domain)).toEqual([
      'text 0',
      'text 2',
      ...('requestId' in changes ? [] : ['text 4']),
    ])
  })

  test('of a request are not stored either if they are queued just after its deletion', async () => {
    await consume([named('late-request', 0)])
    await admin('DELETE', '/samples?request=req_first')
    await deliver([named('late-request', 1, { requestId: 'req_first' })], new Date(Date.now() + 5_000))
    await reservoir('late-request').offer([
      offeredSample('text 2', { requestId: 'req_first', atMs: Date.now() + 5_000 }),
    ])
    expect(await storedTexts('late-request')).toEqual(['text 0'])
    await deliver([named('later-domain', 3, { requestId: 'req_first' })], new Date(Date.now() + 5_000))
    expect(await storedTexts('later-domain')).toEqual([])
  })

  test('while their domain is registered are not stored: the deletion does not know it yet', async () => {
    const deps = createDeps(env, createExecutionContext())
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
    onTestFinished(() => warn.mockRestore())
    const batch = deps.db.batch.bind(deps.db)
    vi.spyOn(deps.db, 'batch').mockImplementationOnce(async (statements) => {
      expect((await admin('DELETE', '/samples?key=key_leaves')).status).toBe(200)
      return batch(statements)
    })
    await consume([named('late-new', 1, { keyId: 'key_leaves' }), named('late-new', 2)], deps)
    expect(await storedTexts('late-new')).toEqual(['text 2'])
    expect(warn.mock.calls).toEqual([['Dropped 1 samples that were deleted after they had been queued.']])
  })

  test('are not stored when they come back from the dead-letter queue', async () => {
    await consume([named('late-dead', 0)])
    const queuedAt = new Date()
    await admin('DELETE', '/domains/late-dead/samples')
    const { lines } = await deliver([named('late-dead', 1)], queuedAt, SAMPLE_QUEUE.deadLetters)
    expect(lines).toHaveLength(1)
    expect(await storedTexts('late-dead')).toEqual([])
  })

  test('with their domain do not create it again', async () => {
    await consume([named('late-domain', 0)])
    const queuedAt = new Date()
    expect((await admin('DELETE', '/domains/late-domain')).status).toBe(200)
    await deliver([named('late-domain', 1)], queuedAt)
    expect((await listDomains(openDatabase(env.DB))).map(({ name }) => name)).not.toContain('late-domain')
    expect(await storedTexts('late-domain')).toEqual([])
  })

  test('are found by the tenant of their key when they were queued by the version before', async () => {
    const { id } = await createKey({ tenant: 'late-tenant' })
    await consume([named('late-old', 0)])
    const queuedAt = new Date()
    await admin('DELETE', '/domains/late-old/samples?tenant=late-tenant')
    await deliver([sample('late-old', 1, 'text 1', id), sample('late-old', 2)], queuedAt)
    expect(await storedTexts('late-old')).toEqual(['text 0', 'text 2'])
  })

  test('are remembered for 30 days', async () => {
    const db = openDatabase(env.DB)
    await admin('DELETE', '/domains/late-old/samples?key=key_kept')
    const ofKey = async () => (await listTombstones(db, 0)).filter(({ keyId }) => keyId === 'key_kept')
    const deps = createDeps(env, createExecutionContext())
    const inDays = (days: number) => ({ ...deps, nowMs: () => Date.now() + days * 24 * 60 * 60 * 1000 })
    await deleteOldTombstones(inDays(29))
    expect(await ofKey()).toHaveLength(1)
    await deleteOldTombstones(inDays(31))
    expect(await ofKey()).toHaveLength(0)
  })
})

test('the samples of a tenant create 32 domains at most, whatever their key, and leave room for other tenants', async () => {
  const db = openDatabase(env.DB)
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  const greedy = [await createKey({ tenant: 'greedy' }), await createKey({ tenant: 'greedy' })]
  const modest = await createKey({ tenant: 'modest' })
  const invented = Array.from({ length: 40 }, (_, index) =>
    sample(`greedy-${index}`, 0, 'text', greedy[index % 2]?.id),
  )
  await consume(invented)
  const made = () => listDomains(db).then((all) => all.filter(({ createdBy }) => createdBy === 'greedy'))
  expect(await made()).toHaveLength(32)
  expect(warn).toHaveBeenCalledOnce()
  await ensureDomains(db, ['registered'], Date.now())
  await consume([sample('registered', 0, 'text', greedy[0]?.id), sample('modest', 0, 'text', modest.id)])
  await consume([sample('shared', 0, 'of one', greedy[0]?.id), sample('shared', 1, 'of both', modest.id)])
  expect([await storedTexts('registered'), await storedTexts('modest')]).toEqual([['text'], ['text']])
  expect(await storedTexts('shared')).toEqual(['of both', 'of one'])
  expect(warn).toHaveBeenCalledOnce()

  await forgetDomain(db, (await made())[0]?.name ?? '')
  await consume([sample('greedy-again', 0, 'text', greedy[0]?.id)])
  expect(await storedTexts('greedy-again')).toEqual(['text'])
  for (const { name } of await made()) await forgetDomain(db, name)
})

test('eight tenants that create all the domains that they can leave a ninth its own', async () => {
  const db = openDatabase(env.DB)
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  // As the samples of the first seven would, without the reservoirs.
  const created = Array.from({ length: 7 * 32 }, (_, index) => index)
  await env.DB.prepare(
    `INSERT INTO domains (name, created_at, created_by)
      SELECT 'crowd-' || value, 0, 'crowd-' || (value % 7) FROM json_each(?)`,
  )
    .bind(JSON.stringify(created))
    .run()
  const { id } = await createKey({ tenant: 'crowd-7' })
  await consume(Array.from({ length: 33 }, (_, index) => sample(`crowd-7-${index}`, 0, 'text', id)))
  const made = async () => (await listDomains(db)).filter(({ name }) => name.startsWith('crowd-'))
  expect(await made()).toHaveLength(8 * 32)
  const ninth = await createKey({ tenant: 'crowd-ninth' })
  await consume([sample('crowd-ninth', 0, 'of the ninth', ninth.id)])
  expect(await storedTexts('crowd-ninth')).toEqual(['of the ninth'])
  await env.DB.prepare("DELETE FROM domains WHERE name LIKE 'crowd-%'").run()
})

test('beyond 256 domains samples of new domains are dropped with one log line per batch, and those of known ones kept', async () => {
  const db = openDatabase(env.DB)
  const known = await listDomains(db)
  // Created as by an import, so that there is room for one more.
  const imported = Array.from({ length: 255 - known.length }, (_, index) => `filler-${index}`)
  await ensureDomains(db, imported, Date.now())
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  await consume([sample('last-one', 0)])
  expect(warn).not.toHaveBeenCalled()
  const bodies = [
    sample('too-many-b', 0),
    sample('too-many-a', 0),
    sample('too-many-a', 1),
    sample('last-one', 1),
    sample('filler-0', 0),
  ]
  expect(await consume(bodies)).toEqual({ acked: ['m0', 'm1', 'm2', 'm3', 'm4'], retried: [] })
  expect(warn).toHaveBeenCalledOnce()
  expect(warn.mock.calls[0]?.[0]).toMatch(/^Dropped 3 samples of the new domains too-many-a, too-many-b: /)
  expect(await listDomains(db)).toHaveLength(256)
  expect(await storedTexts('last-one')).toHaveLength(2)
  expect(await storedTexts('filler-0')).toHaveLength(1)
  expect(await storedTexts('too-many-a')).toEqual([])
})

test('concurrent batches cannot exceed the limit', async () => {
  const db = openDatabase(env.DB)
  const [first] = await listDomains(db)
  await forgetDomain(db, first?.name ?? '')
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  await Promise.all(Array.from({ length: 8 }, (_, index) => consume([sample(`race-${index}`, 0)])))
  expect(await listDomains(db)).toHaveLength(256)
  expect(warn).toHaveBeenCalledTimes(7)
})
