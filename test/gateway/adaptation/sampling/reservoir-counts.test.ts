/** Tests that the counts of samples in D1 follow the reservoirs. */
import { env } from 'cloudflare:workers'
import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { CountsPublisher } from '../../../../gateway/src/adaptation/sampling/counts-publisher.ts'
import { ReservoirFacts } from '../../../../gateway/src/adaptation/sampling/reservoir-facts.ts'
import { refreshCounts } from '../../../../gateway/src/adaptation/sampling/refresh-counts.ts'
import type { ReservoirCounts } from '../../../../gateway/src/contracts/reservoir-counts.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import {
  listReservoirCounts,
  putReservoirCounts,
} from '../../../../gateway/src/storage/db/queries/reservoir-count-queries.ts'
import { UNASSIGNED } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { adminJson, importTexts, testDeps } from '../../support/doubles/simulated-node.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { publishCounts } from '../../support/state/reservoir-state.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const HOUR_MS = 60 * 60 * 1000
const db = openDatabase(env.DB)
const reservoir = (domain: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))
const storedOf = async (domain: string) => (await listReservoirCounts(db)).get(domain)
const alarmOf = (domain: string) =>
  runInDurableObject(reservoir(domain), (_instance, { storage }) => storage.getAlarm())

/** Registers a domain and offers it texts of 100 characters, three of the pool for each that is held out. */
async function offer(domain: string, count: number, name = 'text', atMs = Date.now()): Promise<void> {
  await ensureDomains(db, [domain], 0)
  await reservoir(domain).offer(
    Array.from({ length: count }, (_, index) =>
      offeredSample(`${domain} ${name} ${index} `.padEnd(100, 'words '), {
        side: index % 4 === 0 ? 'holdout' : 'pool',
        keyId: `key-${name}`,
        atMs,
      }),
    ),
  )
}

/** Expects that D1 has what the reservoir counts now. */
async function expectFollowed(domain: string): Promise<void> {
  await publishCounts(domain)
  const { countedAtMs: _, ...counts } = await reservoir(domain).counts()
  expect(await storedOf(domain)).toMatchObject(counts)
}

test('D1 follows texts that enter, are taken, given back, set aside, deleted and expire', async () => {
  await offer('follow', 20)
  await expectFollowed('follow')
  expect(await storedOf('follow')).toMatchObject({
    samples: 15,
    characters: 1_500,
    seen: 20,
    holdoutSamples: 5,
    holdoutCharacters: 500,
    models: {},
    examples: { '': { described: 0, missing: 15 } },
  })

  await reservoir('follow').take({ model: 'm', updateId: 'u', maxBytes: 500, maxKeyShare: 1 })
  await expectFollowed('follow')
  expect((await storedOf('follow'))?.models).toMatchObject({ m: { takenSamples: 5, takenCharacters: 500 } })
  await reservoir('follow').release('m', ['u'])
  await expectFollowed('follow')
  expect((await storedOf('follow'))?.models).toEqual({})

  const draw = { maxBytes: 700, maxKeyShare: 1, outlierDeviations: 6 }
  expect(await reservoir('follow').available({ model: 'm', ...draw })).toBe(700)
  await expectFollowed('follow')
  expect((await storedOf('follow'))?.models).toEqual({
    m: { takenSamples: 0, takenCharacters: 0, draw: { ...draw, bytes: 700 } },
  })

  // A description that is far from the others sets its text aside.
  const base = 'a'.repeat(64)
  const { texts } = await reservoir('follow').textsToDescribe({
    baseSha256: base,
    want: 20,
    limit: 20,
    heldOut: true,
  })
  const described = texts.map(({ hash }, index) => ({
    hash,
    baseSha256: base,
    tokens: 10,
    embedding: [],
    nllMean: index === 0 ? 90 : 2,
  }))
  await reservoir('follow').storeDescriptions(described, [base])
  await expectFollowed('follow')
  expect(await storedOf('follow')).toMatchObject({ reviewSamples: 1, examples: { [base]: { missing: 0 } } })

  await offer('follow', 8, 'other')
  await expectFollowed('follow')
  expect(await storedOf('follow')).toMatchObject({ seen: 28 })
  await adminJson('DELETE', '/domains/follow/samples?key=key-text')
  await expectFollowed('follow')
  expect(await storedOf('follow')).toMatchObject({ samples: 6, holdoutSamples: 2, reviewSamples: 0 })

  // The alarm deletes what has expired, and writes the counts a minute later.
  await runInDurableObject(reservoir('follow'), (_instance, { storage }) => {
    storage.sql.exec('UPDATE sources SET at_ms = at_ms - ?', 31 * DAY_MS)
  })
  await publishCounts('follow')
  await expectFollowed('follow')
  expect(await storedOf('follow')).toMatchObject({ samples: 0, characters: 0, holdoutSamples: 0, seen: 28 })
})

test('counting reads indexes, and no texts', async () => {
  await offer('indexed', 8)
  const plans = await runInDurableObject(reservoir('indexed'), (_instance, { storage }) =>
    [
      "SELECT count(*), sum(characters) FROM texts WHERE side = 'pool' AND review <> 1",
      "SELECT sum(characters) FROM texts WHERE side = 'pool' AND review <> 1 AND hash NOT IN (SELECT hash FROM taken)",
      'SELECT count(*) FROM texts WHERE review = 1',
      'SELECT hash, key_id, offered_nll FROM texts WHERE offered_nll IS NOT NULL',
    ].map((query) =>
      storage.sql
        .exec<{ detail: string }>(`EXPLAIN QUERY PLAN ${query}`)
        .toArray()
        .map(({ detail }) => detail)
        .find((detail) => detail.includes(' texts ')),
    ),
  )
  for (const plan of plans) expect(plan).toMatch(/COVERING INDEX texts_(size|review|nll)/)
})

test('many changes are one write, half a minute to a minute after the first', async () => {
  const beforeMs = Date.now()
  await offer('often', 4, 'first')
  const firstMs = (await alarmOf('often')) ?? 0
  expect(firstMs - beforeMs).toBeGreaterThanOrEqual(30_000)
  expect(firstMs - Date.now()).toBeLessThanOrEqual(60_000)
  for (let turn = 0; turn < 5; turn++) await offer('often', 4, `turn ${turn}`)
  expect(await alarmOf('often')).toBe(firstMs)
  expect(await storedOf('often')).toBeUndefined()
  await publishCounts('often')
  expect(await storedOf('often')).toMatchObject({ seen: 24 })
  // Nothing is due any more but the expiry.
  expect((await alarmOf('often')) ?? 0).toBeGreaterThan(Date.now() + 29 * DAY_MS)
  // A deletion that finds nothing changes nothing.
  await reservoir('often').deleteTexts({ keyId: 'nobody' })
  expect((await alarmOf('often')) ?? 0).toBeGreaterThan(Date.now() + 29 * DAY_MS)
})

test('a deletion has the counts written before it reports that it is done', async () => {
  await offer('gone', 8)
  await offer('gone', 4, 'left')
  await publishCounts('gone')
  expect(await storedOf('gone')).toMatchObject({ samples: 9, holdoutSamples: 3 })
  await adminJson('DELETE', '/domains/gone/samples?key=key-text')
  expect(await storedOf('gone')).toMatchObject({ samples: 3, holdoutSamples: 1 })
  await adminJson('DELETE', '/domains/gone/samples')
  expect(await storedOf('gone')).toMatchObject({ samples: 0, characters: 0, holdoutSamples: 0 })
})

test('counts that a deletion cannot write are written later, and the deletion is done', async () => {
  const logged = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => logged.mockRestore())
  await offer('unwritten', 8)
  await publishCounts('unwritten')
  await env.DB.exec('ALTER TABLE reservoir_counts RENAME TO gone')
  expect(await reservoir('unwritten').deleteTexts()).toBe(8)
  await env.DB.exec('ALTER TABLE gone RENAME TO reservoir_counts')
  expect((await alarmOf('unwritten')) ?? Infinity).toBeLessThanOrEqual(Date.now() + 60_000)
  await publishCounts('unwritten')
  expect(await storedOf('unwritten')).toMatchObject({ samples: 0 })
})

test('a write that fails is repeated, also by an object that was restarted meanwhile', async () => {
  const logged = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => logged.mockRestore())
  await offer('failing', 8)
  await env.DB.exec('ALTER TABLE reservoir_counts RENAME TO gone')
  await publishCounts('failing')
  expect(logged.mock.calls[0]?.[0]).toMatch(/counts of domain 'failing' could not be written to D1/)
  await env.DB.exec('ALTER TABLE gone RENAME TO reservoir_counts')
  expect((await alarmOf('failing')) ?? Infinity).toBeLessThanOrEqual(Date.now() + 60_000)
  await evictDurableObject(reservoir('failing'))
  await publishCounts('failing')
  expect(await storedOf('failing')).toMatchObject({ samples: 6 })
})

test('what changes during a write is written by a next one, and the domain outlives the name of the object', async () => {
  const due = await runInDurableObject(reservoir('during'), async (_instance, { storage }) => {
    const facts = new ReservoirFacts(storage.sql)
    let nowMs = 1
    const written: [string, number][] = []
    const options = {
      nowMs: () => nowMs,
      count: () => ({ seen: nowMs }) as ReservoirCounts,
      async write(domain: string, { seen }: ReservoirCounts) {
        written.push([domain, seen])
        if (written.length === 1) publisher.changed()
      },
    }
    const publisher = new CountsPublisher(facts, { ...options, name: 'during' })
    // Cloudflare may not tell an alarm the name.
    const inAlarm = () => new CountsPublisher(facts, { ...options, name: undefined })
    publisher.changed()
    await publisher.publishDue()
    expect(written).toEqual([])
    nowMs = publisher.dueMs() ?? 0
    await publisher.publishDue()
    expect(publisher.dueMs()).toBeGreaterThan(nowMs)
    nowMs = publisher.dueMs() ?? 0
    await inAlarm().publishDue()
    expect(written).toEqual([
      ['during', expect.any(Number)],
      ['during', nowMs],
    ])
    return publisher.dueMs()
  })
  expect(due).toBeUndefined()
})

test('counts that were lost or never written are filled in, and wrong ones corrected within an hour', async () => {
  await offer('lost', 8)
  await offer('wrong', 8)
  await publishCounts('lost')
  await publishCounts('wrong')
  await env.DB.exec("DELETE FROM reservoir_counts WHERE domain = 'lost'")
  await env.DB.exec("UPDATE reservoir_counts SET samples = 999 WHERE domain = 'wrong'")
  await refreshCounts(testDeps())
  expect(await storedOf('lost')).toMatchObject({ samples: 6 })
  expect(await storedOf('wrong')).toMatchObject({ samples: 999 })
  await env.DB.exec(`UPDATE reservoir_counts SET counted_at_ms = ${Date.now() - HOUR_MS - 1}`)
  await refreshCounts(testDeps())
  expect(await storedOf('wrong')).toMatchObject({ samples: 6 })
})

test('a reservoir that does not answer is left out, and the others are counted', async () => {
  const warned = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warned.mockRestore())
  for (const name of ['silent', 'heard']) await offer(name, 4)
  const deps = testDeps()
  await refreshCounts({
    ...deps,
    reservoir: (name) => {
      if (name === 'silent') throw new Error('no answer')
      return deps.reservoir(name)
    },
  })
  expect(warned).toHaveBeenCalledOnce()
  expect(await storedOf('silent')).toBeUndefined()
  expect(await storedOf('heard')).toMatchObject({ samples: 3 })
})

test('a deleted domain leaves no counts, whenever its reservoir writes, and one of the same name begins anew', async () => {
  await importTexts('passing', 20)
  await publishCounts('passing')
  expect((await storedOf('passing'))?.samples).toBe(15)
  const old = await reservoir('passing').counts()
  await adminJson('DELETE', '/domains/passing')
  expect(await storedOf('passing')).toBeUndefined()
  await publishCounts('passing')
  await putReservoirCounts(db, new Map([['passing', old]]))
  expect(await storedOf('passing')).toBeUndefined()
  // A version without counts deletes none.
  await offer('unknown', 4)
  await publishCounts('unknown')
  await env.DB.exec("DELETE FROM domains WHERE name = 'unknown'")
  await refreshCounts(testDeps())
  expect(await storedOf('unknown')).toBeUndefined()
  await importTexts('passing', 8, 'anew')
  await publishCounts('passing')
  expect(await storedOf('passing')).toMatchObject({ samples: 6, seen: 8 })
})

test('older counts do not replace newer ones, and texts without a domain are not counted', async () => {
  await offer('newer', 4)
  const old = await reservoir('newer').counts()
  await offer('newer', 4, 'more')
  await publishCounts('newer')
  await putReservoirCounts(db, new Map([['newer', { ...old, countedAtMs: old.countedAtMs - 1 }]]))
  expect(await storedOf('newer')).toMatchObject({ seen: 8 })
  await reservoir(UNASSIGNED).offer([offeredSample('a text of no domain')])
  await publishCounts(UNASSIGNED)
  expect(await storedOf(UNASSIGNED)).toBeUndefined()
})
