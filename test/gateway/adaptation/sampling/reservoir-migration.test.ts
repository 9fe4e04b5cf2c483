import { env } from 'cloudflare:workers'
import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { sideOfHash } from '../../../../gateway/src/adaptation/sampling/sample-placement.ts'
import { splitText } from '../../../../gateway/src/adaptation/sampling/split-text.ts'
import { headHash, textHash } from '../../../../gateway/src/adaptation/sampling/text-hash.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { holdoutOf, poolOf, withStore } from '../../support/state/reservoir-state.ts'

/** The tables of version 1. */
const OLD_SCHEMA = `
  CREATE TABLE IF NOT EXISTS samples (
    hash TEXT PRIMARY KEY, share TEXT NOT NULL, priority REAL NOT NULL, key_id TEXT NOT NULL,
    text TEXT NOT NULL, characters INTEGER NOT NULL, at_ms INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS samples_priority ON samples (share, priority);
  CREATE INDEX IF NOT EXISTS samples_at ON samples (at_ms);
  CREATE INDEX IF NOT EXISTS samples_key ON samples (key_id);
  CREATE TABLE IF NOT EXISTS requests (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS requests_at ON requests (at_ms);
  CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
  INSERT OR IGNORE INTO facts VALUES ('seed', 'old seed'), ('seen', 70), ('last_at_ms', 90);
`

interface OldText {
  text: string
  share: 'pool' | 'holdout'
  atMs?: number
}

/** Fills the storage of a Durable Object like the version before. */
async function fill(storage: DurableObjectStorage, texts: readonly OldText[], isFrozen = false) {
  storage.sql.exec('DROP TABLE IF EXISTS facts')
  storage.sql.exec(OLD_SCHEMA)
  if (isFrozen) storage.sql.exec(`INSERT INTO facts VALUES ('holdout_frozen', 1)`)
  for (const [index, { text, share, atMs = 50 }] of texts.entries()) {
    storage.sql.exec(
      'INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?)',
      await textHash(text),
      share,
      index / 100,
      'key_old',
      text,
      text.length,
      atMs,
    )
  }
}

const texts = (count: number, share: OldText['share']): OldText[] =>
  Array.from({ length: count }, (_, index) => ({ share, text: `${share} ${index}` }))
const tablesOf = ({ sql }: DurableObjectStorage) =>
  sql
    .exec<{ name: string }>(
      `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\'`,
    )
    .toArray()
    .map(({ name }) => name)

test('texts, keys, counts and times of the version before are kept, and its tables go', async () => {
  await withStore('migrated', async (open, storage) => {
    await fill(storage, [...texts(6, 'pool'), ...texts(3, 'holdout')])
    for (const store of [open(), open()]) {
      await store.migrate()
      expect(poolOf(store)).toEqual(texts(6, 'pool').map(({ text }) => text))
      expect(store.stats()).toMatchObject({ samples: 6, holdoutSamples: 3, seen: 70, lastSampleAtMs: 90 })
      expect(store.nextExpiryMs()).toBe(1_050)
    }
    expect(tablesOf(storage)).not.toEqual(expect.arrayContaining(['samples']))
    expect(tablesOf(storage)).not.toEqual(expect.arrayContaining(['requests']))
    const store = open({ seed: 'ignored' })
    expect(store.take({ model: 'm', updateId: 'u', maxBytes: 1 })).toEqual([
      {
        text: 'pool 0',
        sources: [{ requestId: '', keyId: 'key_old', tenant: '', conversation: '', consentVersion: 0 }],
      },
    ])
    await store.offer([offeredSample('pool 1', { side: 'holdout', atMs: 100 })])
    expect(holdoutOf(store)).toEqual(texts(3, 'holdout').map(({ text }) => text))
    expect(store.delete({ keyId: 'key_old' })).toBe(9)
  })
})

test('held-out texts that begin like a text of the pool are dropped, because their conversations were on both sides', async () => {
  await withStore('shared openings', async (open, storage) => {
    await fill(storage, [
      { text: 'opening', share: 'pool' },
      { text: 'opening\n\nsecond message', share: 'holdout' },
      { text: 'another\n\nsecond message', share: 'holdout' },
    ])
    const store = open()
    await store.migrate()
    expect(holdoutOf(store)).toEqual(['another\n\nsecond message'])
    await store.offer([offeredSample('another', { side: 'pool', atMs: 100 })])
    expect(poolOf(store)).toEqual(['opening'])
  })
})

test('after a frozen holdout, texts stay on the side that they had until the holdout is known, then only its own do', async () => {
  await withStore('frozen', async (open, storage) => {
    const bounds = { texts: 1_000, characters: 1e6 }
    await fill(storage, texts(5, 'pool'), true)
    const store = open({ pool: bounds, holdout: bounds })
    await store.migrate()
    const candidates = Array.from({ length: 60 }, (_, index) => `offered ${index}`)
    const oldHoldout: string[] = []
    for (const text of candidates) {
      if (sideOfHash(await textHash(text)) === 'holdout') oldHoldout.push(text)
    }
    const send = (name: string) =>
      store.offer(
        candidates.map((text) =>
          offeredSample(text, { side: 'pool', atMs: 100, requestId: `${name} ${text}` }),
        ),
      )
    await send('before')
    expect(poolOf(store).filter((text) => oldHoldout.includes(text))).toEqual([])
    expect(store.stats().samples).toBe(5 + 60 - oldHoldout.length)
    const [frozen = ''] = oldHoldout
    store.markHeldOut([await textHash(frozen)])
    await send('after')
    expect(store.stats().samples).toBe(5 + 60 - 1)
    expect(poolOf(store)).not.toContain(frozen)
    await store.offer([offeredSample('new', { side: 'holdout', atMs: 100 })])
    expect(holdoutOf(store)).toEqual(['new'])
  })
})

/** The tables of version 2, with what is needed of them. */
const SECOND_SCHEMA = `
  CREATE TABLE texts (
    hash TEXT PRIMARY KEY, head TEXT NOT NULL, side TEXT NOT NULL, priority REAL NOT NULL, text TEXT NOT NULL,
    characters INTEGER NOT NULL, taken INTEGER NOT NULL DEFAULT 0
  ) WITHOUT ROWID;
  CREATE INDEX texts_priority ON texts (side, priority);
  CREATE TABLE sources (
    hash TEXT NOT NULL, key_id TEXT NOT NULL, conversation TEXT NOT NULL, request_id TEXT NOT NULL, tenant TEXT NOT NULL,
    consent_version INTEGER NOT NULL, opening TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (hash, key_id, conversation)
  ) WITHOUT ROWID;
  CREATE TABLE taken (
    model TEXT NOT NULL, hash TEXT NOT NULL, update_id TEXT NOT NULL, PRIMARY KEY (model, hash)
  ) WITHOUT ROWID;
  CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
  INSERT INTO facts VALUES ('seed', 'seed of 2'), ('seen', 9), ('pool_threshold', 0.75), ('schema', 2);
`

/** Fills the storage of a Durable Object like version 2. The texts are on the pool, from the keys `key 0`, `key 1`, … */
async function fillSecond(
  storage: DurableObjectStorage,
  stored: readonly string[],
  taken: readonly string[],
) {
  for (const table of ['texts', 'sources', 'taken', 'facts'])
    storage.sql.exec(`DROP TABLE IF EXISTS ${table}`)
  storage.sql.exec(SECOND_SCHEMA)
  for (const [index, text] of stored.entries()) {
    const [hash, head] = [await textHash(text), await headHash(text)]
    storage.sql.exec(
      `INSERT INTO texts VALUES (?, ?, 'pool', ?, ?, ?, ?)`,
      hash,
      head,
      index / 10,
      text,
      text.length,
      taken.includes(text) ? 1 : 0,
    )
    storage.sql.exec(
      `INSERT INTO sources VALUES (?, ?, 'c', 'r', 'tenant', 1, ?, 50)`,
      hash,
      `key ${index}`,
      head,
    )
  }
  for (const text of taken) storage.sql.exec(`INSERT INTO taken VALUES ('m', ?, 'old')`, await textHash(text))
}

const longText = (name: string) => Array.from({ length: 1_000 }, (_, index) => `${name} ${index}`).join(' ')

test('long texts of version 2 are split into pieces of their key, and those of a taken text stay taken', async () => {
  await withStore('second version', async (open, storage) => {
    const bounds = { texts: 100, characters: 1e6 }
    const [long, taken] = [longText('new'), longText('old')]
    await fillSecond(storage, ['short', long, taken], [taken])
    for (const store of [open({ pool: bounds, holdout: bounds }), open({ pool: bounds, holdout: bounds })]) {
      await store.migrate()
      const fresh = store.take({ model: 'm', updateId: 'next', maxBytes: Infinity })
      expect(fresh.map(({ text }) => text).toSorted()).toEqual(
        ['short', ...splitText(long, 4_096)].toSorted(),
      )
      expect(
        new Set(fresh.flatMap(({ sources }) => sources.map(({ keyId, tenant }) => `${tenant} ${keyId}`))),
      ).toEqual(new Set(['tenant key 0', 'tenant key 1']))
    }
    const store = open({ pool: bounds, holdout: bounds })
    expect(store.stats('m')).toMatchObject({
      samples: 1 + 2 * splitText(long, 4_096).length,
      newSamples: 0,
      seen: 9,
    })
    // A taken text that is gone is known by its hash, so the pieces of the same text are not new either.
    store.delete({ keyId: 'key 2' })
    await store.offer([offeredSample(taken, { side: 'pool', atMs: 100, conversation: 'again' })])
    expect(store.take({ model: 'm', updateId: 'later', maxBytes: Infinity })).toEqual([])
    await store.offer([offeredSample(taken, { side: 'holdout', atMs: 100, conversation: 'held out' })])
    expect(holdoutOf(store)).toEqual([])
  })
})

test('the threshold of a side of version 2 becomes that of each of its keys', async () => {
  await withStore('old threshold', async (open, storage) => {
    await fillSecond(storage, ['one', 'two'], [])
    await open().migrate()
    expect(storage.sql.exec('SELECT * FROM thresholds').toArray()).toEqual([
      { side: 'pool', tenant: 'tenant', key_id: 'key 0', threshold: 0.75 },
      { side: 'pool', tenant: 'tenant', key_id: 'key 1', threshold: 0.75 },
    ])
    expect(storage.sql.exec(`SELECT value FROM facts WHERE name = 'schema'`).one()).toEqual({ value: 3 })
  })
})

test('an object is migrated before it handles its first call', async () => {
  const reservoir = env.RESERVOIR.get(env.RESERVOIR.idFromName('migrated object'))
  await runInDurableObject(reservoir, async (_instance, { storage }) => {
    await fill(
      storage,
      [...texts(4, 'pool'), ...texts(2, 'holdout')].map((text) => ({ ...text, atMs: Date.now() })),
    )
  })
  await evictDurableObject(reservoir)
  expect(await reservoir.stats()).toMatchObject({ samples: 4, holdoutSamples: 2, seen: 70 })
})
