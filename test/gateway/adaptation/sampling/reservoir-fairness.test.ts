import { describe, expect, test } from 'vitest'
import type { OfferedSample, StoredText } from '../../../../gateway/src/contracts/reservoir-object.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { withStore } from '../../support/state/reservoir-state.ts'

const POOL = { texts: 2_048, characters: 4 * 1024 * 1024 }
const HOLDOUT = { texts: 512, characters: 128 * 1024 }
const LARGE = { pool: POOL, holdout: HOLDOUT }
/** Bytes that an update of 128 × 512 tokens takes of a domain. */
const DEMAND = 128 * 512 * 4 * 1.25

/** Returns a text of different words, so that no two are alike. */
function prose(name: string, characters: number): string {
  let text = ''
  for (let word = 0; text.length < characters; word++) text += `${hash(`${name} ${word}`).toString(36)} `
  return text.slice(0, characters - 1).padEnd(characters, '.')
}

function hash(text: string): number {
  let value = 7
  for (const character of text) value = (Math.imul(value, 31) + (character.codePointAt(0) ?? 0)) >>> 0
  return value
}

const sent = (keyId: string, count: number, characters: number, changes: Partial<OfferedSample> = {}) =>
  Array.from({ length: count }, (_, index) =>
    offeredSample(prose(`${keyId} ${index}`, characters), {
      keyId,
      side: 'pool',
      atMs: 100,
      requestId: `${keyId} ${index}`,
      ...changes,
    }),
  )
const others = (keys: number, count: number, characters: number, changes: Partial<OfferedSample> = {}) =>
  Array.from({ length: keys }, (_, key) => sent(`key ${key}`, count, characters, changes)).flat()
function charactersOf(texts: readonly StoredText[], keyId?: string): number {
  return texts
    .filter(({ sources }) => keyId === undefined || sources[0]?.keyId === keyId)
    .reduce((sum, { text }) => sum + text.length, 0)
}
function bytesOf(texts: readonly StoredText[], keyId?: string): number {
  const own = texts.filter(({ sources }) => keyId === undefined || sources[0]?.keyId === keyId)
  return new TextEncoder().encode(own.map(({ text }) => text).join('')).byteLength
}
/** Returns samples of a key in Japanese letters, of three bytes each. */
const japanese = (keyId: string, count: number, characters: number) =>
  sent(keyId, count, characters).map((offer) => ({
    ...offer,
    text: offer.text.replaceAll(/\S/gu, (letter) =>
      String.fromCodePoint(0x3041 + (letter.charCodeAt(0) % 80)),
    ),
  }))
const shareOf = (texts: readonly StoredText[], keyId: string) =>
  charactersOf(texts, keyId) / charactersOf(texts)
const update = { model: 'm', updateId: 'u', maxBytes: DEMAND, maxKeyShare: 0.1 }

describe('a key that sends 2.9 % of the texts, but long ones', () => {
  const texts = [...others(20, 100, 300), ...sent('long', 60, 30 * 1024)]

  test('gives an update at most 10 % of its characters, in pieces of at most 4 KB', async () => {
    await withStore('long texts', async (open) => {
      const store = open(LARGE)
      for (let at = 0; at < texts.length; at += 128) await store.offer(texts.slice(at, at + 128))
      const taken = store.take(update)
      expect(shareOf(taken, 'long')).toBeLessThanOrEqual(0.1)
      expect(shareOf(taken, 'long')).toBeGreaterThan(0.04)
      expect(taken.every(({ text }) => text.length <= 4_096)).toBe(true)
      expect(store.take(update)).toEqual(taken)
      expect(store.available({ ...update, model: 'another' })).toBe(charactersOf(taken))
    })
  })

  test('is at most 10 % of a holdout', async () => {
    await withStore('long holdout', async (open) => {
      const store = open(LARGE)
      const held = texts.map((offer) => ({ ...offer, side: 'holdout' as const }))
      for (let at = 0; at < held.length; at += 128) await store.offer(held.slice(at, at + 128))
      const holdout = store.holdout(HOLDOUT.characters)
      expect(shareOf(holdout, 'long')).toBeLessThanOrEqual(0.1)
      const { holdoutCharacters, holdoutSamples } = store.stats()
      expect([holdoutCharacters, holdoutSamples]).toEqual([charactersOf(holdout), holdout.length])
    })
  })
})

describe('a key that writes another script', () => {
  const texts = [...others(14, 20, 600), ...japanese('script', 120, 4_000)]

  test('gives an update at most 10 % of the bytes, a third as many characters', async () => {
    await withStore('another script', async (open) => {
      const store = open(LARGE)
      for (let at = 0; at < texts.length; at += 128) await store.offer(texts.slice(at, at + 128))
      const taken = store.take({ ...update, maxBytes: 40_960 })
      const share = bytesOf(taken, 'script') / bytesOf(taken)
      expect(share).toBeGreaterThan(0.04)
      expect(share).toBeLessThanOrEqual(0.1)
      expect(shareOf(taken, 'script')).toBeLessThan(0.04)
      const ofScript = taken.filter(({ sources }) => sources[0]?.keyId === 'script')
      expect(ofScript.every(({ text }) => texts.some((offer) => offer.text.startsWith(text)))).toBe(true)
      expect(store.available({ ...update, maxBytes: 40_960, model: 'another' })).toBe(bytesOf(taken))
    })
  })

  test('gives a holdout at most 10 % of the bytes', async () => {
    await withStore('another script held out', async (open) => {
      const store = open(LARGE)
      const held = texts.map((offer) => ({ ...offer, side: 'holdout' as const }))
      for (let at = 0; at < held.length; at += 128) await store.offer(held.slice(at, at + 128))
      const holdout = store.holdout(HOLDOUT.characters)
      const share = bytesOf(holdout, 'script') / bytesOf(holdout)
      expect(share).toBeGreaterThan(0.01)
      expect(share).toBeLessThanOrEqual(0.1)
    })
  })

  test('still adapts its domain beside an idle key', async () => {
    await withStore('script alone', async (open) => {
      const store = open(LARGE)
      await store.offer([...japanese('busy', 120, 4_000), ...japanese('idle', 1, 300)])
      expect(store.available(update)).toBeGreaterThanOrEqual(DEMAND / 5)
    })
  })
})

describe('a key that floods a full reservoir', () => {
  const small = { pool: { texts: 200, characters: 60_000 }, holdout: { texts: 50, characters: 10_000 } }

  test('evicts no texts of other keys, which send less than their share', async () => {
    await withStore('flood', async (open) => {
      const store = open(small)
      const quiet = others(8, 10, 300)
      await store.offer(quiet.slice(0, 40))
      for (let batch = 0; batch < 20; batch++) {
        await store.offer(
          sent(`flood`, 50, 700, { conversation: `${batch}` }).map((offer) => ({
            ...offer,
            text: prose(`flood ${batch} ${offer.requestId}`, 700),
            requestId: `${batch} ${offer.requestId}`,
          })),
        )
      }
      await store.offer(quiet.slice(40))
      const stored = store.take({ ...update, maxBytes: Infinity })
      expect(charactersOf(stored)).toBeGreaterThan(50_000)
      expect(stored.filter(({ sources }) => sources[0]?.keyId !== 'flood')).toHaveLength(80)
    })
  })

  test('does not win with many short texts either, nor does a tenant with many keys', async () => {
    await withStore('short flood', async (open, { sql }) => {
      const store = open(small)
      await store.offer(others(8, 10, 300))
      for (let key = 0; key < 40; key++) {
        await store.offer(sent(`flood ${key}`, 30, 20, { tenant: 'flooding' }))
      }
      expect(sql.exec('SELECT tenant, count(*) AS texts FROM texts GROUP BY tenant').toArray()).toEqual([
        { tenant: 'flooding', texts: 120 },
        { tenant: 'tenant', texts: 80 },
      ])
    })
  })

  test('leaves texts of the operator, which take at most half where others need room', async () => {
    await withStore('imported', async (open) => {
      const store = open(small)
      await store.offer(sent('operator', 200, 500, { tenant: '' }))
      const characters = () => store.stats().characters
      expect(characters()).toBeGreaterThan(59_000)
      await store.offer(others(4, 40, 500))
      const stored = store.take({ ...update, maxBytes: Infinity })
      expect(charactersOf(stored, 'operator') / charactersOf(stored)).toBeCloseTo(0.5, 1)
    })
  })
})

test('a text that several keys sent counts for the one with less text, and for the others when that one is deleted', async () => {
  await withStore('shared text', async (open) => {
    const store = open(LARGE)
    await store.offer([...sent('large', 40, 500), ...sent('small', 1, 500)])
    const [shared = offeredSample('')] = sent('large', 1, 500)
    await store.offer([{ ...shared, keyId: 'small', requestId: 'again', conversation: 'another' }])
    const owners = () =>
      store
        .take({ ...update, updateId: 'look' })
        .filter(({ text }) => text === shared.text)
        .map(({ sources }) => sources.map(({ keyId }) => keyId))
    expect(owners()).toEqual([['large', 'small']])
    store.delete({ keyId: 'small' })
    expect(owners()).toEqual([['large']])
    store.delete({ keyId: 'large' })
    expect(store.stats()).toMatchObject({ samples: 0 })
  })
})

test('the same text with small edits counts once in a domain, on both sides', async () => {
  await withStore('edited', async (open) => {
    const store = open(LARGE)
    const text = prose('original', 600)
    const edited = Array.from({ length: 50 }, (_, index) => text.replace(/^\w+ \w+/u, `edited ${index}`))
    await store.offer([
      ...sent('other', 3, 600),
      ...edited.map((changed, index) =>
        offeredSample(changed, { side: 'pool', atMs: 100, requestId: `${index}` }),
      ),
      offeredSample(`${text} and more`, { side: 'holdout', atMs: 100 }),
    ])
    expect(store.stats()).toMatchObject({ samples: 4, holdoutSamples: 0, seen: 54 })
  })
})

test('thousands of different texts leave memory and storage within their bounds', async () => {
  await withStore('rate', async (open, { sql }) => {
    const store = open(LARGE)
    for (let round = 0; round < 12; round++) {
      await store.offer(
        Array.from({ length: 250 }, (_, index) =>
          offeredSample(prose(`${round} ${index}`, 800), {
            keyId: `key ${index % 25}`,
            atMs: 100,
            requestId: `${round} ${index}`,
          }),
        ),
      )
    }
    const { samples, characters, seen } = store.stats()
    expect(seen).toBe(3_000)
    expect(samples).toBe(POOL.texts)
    expect(characters).toBeLessThanOrEqual(POOL.characters)
    expect(sql.databaseSize).toBeLessThan(16 * 1024 * 1024)
    expect(sql.exec('SELECT count(*) AS rows FROM thresholds').one().rows).toBeLessThanOrEqual(50)
  })
})
