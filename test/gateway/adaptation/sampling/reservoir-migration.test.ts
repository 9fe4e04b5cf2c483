import { env } from 'cloudflare:workers'
import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { sideOfHash } from '../../../../gateway/src/adaptation/sampling/sample-placement.ts'
import { textHash } from '../../../../gateway/src/adaptation/sampling/text-hash.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { holdoutOf, poolOf, withStore } from '../../support/state/reservoir-state.ts'

/** The tables of the version before. */
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
    expect(store.take({ model: 'm', updateId: 'u', maxCharacters: 1 })).toEqual([
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
