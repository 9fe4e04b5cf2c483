import { describe, expect, test } from 'vitest'
import { drawFairly, type DrawableText } from '../../../../gateway/src/adaptation/sampling/fair-draw.ts'
import { createRandom } from '../../../support/harness/random.ts'

const PIECE = 4_096
/** Bytes that an update of 128 × 512 tokens takes of a domain. */
const DEMAND = 128 * 512 * 4 * 1.25
/** Returns texts of one key, by default each of a request of its own. */
const sent = (
  keyId: string,
  count: number,
  characters: number,
  { tenant = 'tenant', piecesEach = 1, bytesEach = 1 } = {},
): DrawableText[] =>
  Array.from({ length: count }, (_, index) => ({
    hash: `${keyId} ${index}`,
    characters,
    bytes: characters * bytesEach,
    tenant,
    keyId,
    request: `${keyId} ${Math.floor(index / piecesEach)}`,
  }))
const keys = (name: string, count: number, texts: number, characters: number, changes = {}) =>
  Array.from({ length: count }, (_, key) => sent(`${name} ${key}`, texts, characters, changes)).flat()
const sum = (texts: readonly DrawableText[]) => texts.reduce((all, { bytes }) => all + bytes, 0)
const draw = (texts: readonly DrawableText[], maxBytes = DEMAND, maxKeyShare = 0.1) =>
  drawFairly(texts, { maxBytes, maxKeyShare }, ({ characters, bytes }, most) => ({
    characters: Math.floor((most * characters) / bytes),
    bytes: most,
  }))
/** Returns the share of each key, or of each tenant, in what is drawn. */
function sharesOf(drawn: readonly DrawableText[], by: 'keyId' | 'tenant' = 'keyId'): Map<string, number> {
  const all = sum(drawn)
  return new Map([...Map.groupBy(drawn, (text) => text[by])].map(([name, own]) => [name, sum(own) / all]))
}
/** Shuffles texts, as their priorities do. */
function shuffled(texts: readonly DrawableText[], random: () => number): DrawableText[] {
  return texts
    .map((text) => ({ text, lot: random() }))
    .sort((one, other) => one.lot - other.lot)
    .map(({ text }) => text)
}

describe('one key among many', () => {
  test('2.9 % of texts, long ones of one key, are no more than 10 % of the characters', () => {
    const others = Array.from({ length: 20 }, (_, key) => sent(`key ${key}`, 100, 300)).flat()
    // 60 texts of 30 KB, in pieces.
    const long = sent('long', 60 * 8, PIECE, { piecesEach: 8 })
    const texts = shuffled([...others, ...long], createRandom(1))
    const before = texts.filter((_, index) => sum(texts.slice(0, index)) < DEMAND)
    expect(sharesOf(before).get('long')).toBeGreaterThan(0.7)
    expect(sharesOf(draw(texts)).get('long')).toBeLessThanOrEqual(0.1)
  })

  test('that floods the domain gives 10 %, however little the others send', () => {
    const others = Array.from({ length: 12 }, (_, key) => sent(`key ${key}`, 20, 500)).flat()
    const drawn = draw([...sent('flood', 500, PIECE), ...others])
    expect(sharesOf(drawn).get('flood')).toBeLessThanOrEqual(0.1)
    expect(drawn.filter(({ keyId }) => keyId !== 'flood')).toHaveLength(others.length)
  })

  test('that writes a script of three bytes a character gives 10 % of the bytes, a third as many characters', () => {
    const others = Array.from({ length: 14 }, (_, key) => sent(`key ${key}`, 20, 600)).flat()
    const drawn = draw([...sent('script', 500, PIECE, { bytesEach: 3 }), ...others], 40_960)
    expect(sharesOf(drawn).get('script')).toBeLessThanOrEqual(0.1)
    const ofScript = drawn.filter(({ keyId }) => keyId === 'script')
    const characters = ofScript.reduce((all, text) => all + text.characters, 0)
    expect(characters).toBeLessThanOrEqual((40_960 * 0.1) / 3)
    expect(characters).toBeGreaterThan((40_960 * 0.05) / 3)
  })

  test('gives its fair share where fewer than ten send text', () => {
    const texts = [
      ...sent('flood', 500, PIECE),
      ...sent('b', 100, 900),
      ...sent('c', 100, 900),
      ...sent('d', 100, 900),
    ]
    expect(sharesOf(draw(texts)).get('flood')).toBeCloseTo(0.25, 1)
  })

  test('that alone sends text gives all of it', () => {
    expect(sum(draw(sent('alone', 500, 1_000)))).toBe(Math.ceil(DEMAND / 1_000) * 1_000)
  })

  test('still adapts its domain beside an idle key, with little more text than an update needs', () => {
    const drawn = draw([...sent('busy', 500, 1_000), ...sent('idle', 1, 300)])
    expect(sum(drawn)).toBeGreaterThanOrEqual(DEMAND / 5)
    expect(sum(drawn)).toBeLessThan(DEMAND / 3)
  })
})

describe('keys with few requests', () => {
  const ordinary = keys('key', 14, 20, 600)
  /** 4.1 % of the requests: texts of 16 KB. */
  const long = keys('long', 10, 4, PIECE, { piecesEach: 4 })
  const take = 40_960
  const ofLong = (drawn: readonly DrawableText[]) => drawn.filter(({ keyId }) => keyId.startsWith('long'))
  const shareOfLong = (drawn: readonly DrawableText[]) => sum(ofLong(drawn)) / sum(drawn)

  test('give no more than an ordinary request each, however long their texts are', () => {
    const drawn = draw(shuffled([...ordinary, ...long], createRandom(1)), take)
    expect(sum(drawn)).toBeGreaterThanOrEqual(take)
    expect(ofLong(drawn).map(({ characters }) => characters)).toEqual(
      Array.from(long.slice(0, 10), () => 600),
    )
    expect(shareOfLong(drawn)).toBeLessThan(0.15)
  })

  test('give no more where they are more keys than the others', () => {
    const drawn = draw([...ordinary, ...keys('long', 20, 4, PIECE, { piecesEach: 4 })], DEMAND)
    expect(shareOfLong(drawn)).toBeLessThanOrEqual((2 * 20) / 300)
  })

  test('give at most twice their part of the requests where much is drawn', () => {
    const drawn = draw([...ordinary, ...long], DEMAND)
    expect(shareOfLong(drawn)).toBeLessThanOrEqual((2 * 10) / 290)
    expect(drawn.filter(({ keyId }) => keyId.startsWith('key'))).toHaveLength(ordinary.length)
  })

  test('leave the texts of the others as they would be drawn without them, only fewer', () => {
    const texts = shuffled([...ordinary, ...long], createRandom(2))
    const without = new Set(
      draw(
        texts.filter(({ keyId }) => keyId.startsWith('key')),
        take,
      ).map(({ hash }) => hash),
    )
    const beside = draw(texts, take).filter(({ keyId }) => keyId.startsWith('key'))
    expect(beside.filter(({ hash }) => !without.has(hash))).toEqual([])
    expect(beside.length).toBeGreaterThan(0.8 * without.size)
  })

  test('count for little too where fewer than ten keys send text, and the others give enough for an update', () => {
    const drawn = draw([...keys('key', 4, 60, 600), ...keys('long', 5, 4, PIECE, { piecesEach: 4 })])
    expect(sum(drawn)).toBeGreaterThanOrEqual(DEMAND / 5)
    expect(shareOfLong(drawn)).toBeLessThan(0.06)
  })

  test('still give most of the text where it would be too little without theirs', () => {
    const drawn = draw([...sent('short', 100, 100), ...sent('long', 30, PIECE, { piecesEach: 30 })])
    expect(sum(drawn)).toBeGreaterThanOrEqual(DEMAND / 4)
  })

  test('lose nothing to a key with very many', () => {
    const few = keys('key', 12, 20, 500)
    const drawn = draw([...sent('flood', 2_000, 2_000), ...few])
    expect(drawn.filter(({ keyId }) => keyId !== 'flood')).toHaveLength(few.length)
    expect(sharesOf(drawn).get('flood')).toBeLessThanOrEqual(0.1)
  })
})

test('of a text that is longer than what is left of the share of its key only the beginning is drawn', () => {
  const others = keys('key', 12, 20, 500)
  const drawn = draw([...sent('flood', 500, PIECE), ...others])
  const ofFlood = drawn.filter(({ keyId }) => keyId === 'flood')
  expect(ofFlood.map(({ hash }) => hash)).toEqual(['flood 0', 'flood 1', 'flood 2', 'flood 3'])
  // A tenth of what is drawn, to the byte.
  expect(sum(ofFlood)).toBe(Math.floor(sum(others) / 9))
})

test('what small keys do not give is given by larger ones', () => {
  const small = Array.from({ length: 12 }, (_, key) => sent(`small ${key}`, 10, 500)).flat()
  const large = Array.from({ length: 12 }, (_, key) => sent(`large ${key}`, 100, 1_000)).flat()
  const drawn = draw([...small, ...large])
  expect(drawn.filter(({ keyId }) => keyId.startsWith('small'))).toHaveLength(small.length)
  expect(sum(drawn)).toBeGreaterThanOrEqual(DEMAND)
})

test('a tenant that makes many keys gets the share of one tenant', () => {
  const many = Array.from({ length: 60 }, (_, key) =>
    sent(`key ${key}`, 20, 1_000, { tenant: 'many' }),
  ).flat()
  const [b, c] = ['b', 'c'].map((tenant) => sent(tenant, 300, 1_000, { tenant }))
  const drawn = draw([...many, ...(b ?? []), ...(c ?? [])])
  for (const share of sharesOf(drawn, 'tenant').values()) expect(share).toBeCloseTo(1 / 3, 1)
  const tenants = Array.from({ length: 15 }, (_, name) =>
    sent(`of ${name}`, 40, 1_000, { tenant: `tenant ${name}` }),
  ).flat()
  expect(sharesOf(draw([...many, ...tenants]), 'tenant').get('many')).toBeLessThanOrEqual(0.1)
})

test('texts of the operator have no cap', () => {
  const others = Array.from({ length: 12 }, (_, key) => sent(`key ${key}`, 20, 500)).flat()
  const imported = sent('operator', 400, 1_000, { tenant: '' })
  const shares = sharesOf(draw([...imported, ...others]))
  expect(shares.get('operator')).toBeGreaterThan(0.7)
  expect(draw(imported, 10_000)).toHaveLength(10)
})

/** Returns the tenants and keys that give more than their share. */
function overdrawn(
  texts: readonly DrawableText[],
  drawn: readonly DrawableText[],
  tenants: number,
): string[] {
  const all = sum(drawn)
  // The total lacks beginnings of less than 64 characters, which are not drawn.
  const total = all + 64 * new Set(texts.map(({ keyId }) => keyId)).size
  // A fair share may be exceeded up to a quarter of the text; the least text has a share too.
  const mostOf = (share: number) =>
    share >= 1 ? Infinity : Math.max(share * total + (share > 0.1 ? DEMAND / 4 : 0), 0.02 * DEMAND) + 1
  const isOver = (group: readonly DrawableText[], share: number) => sum(group) > mostOf(share)
  const tenantShare = Math.max(0.1, 1 / tenants)
  return [...Map.groupBy(drawn, ({ tenant }) => tenant)].flatMap(([tenant, own]) => {
    const count = new Set(texts.filter((text) => text.tenant === tenant).map(({ keyId }) => keyId)).size
    const over = [...Map.groupBy(own, ({ keyId }) => keyId)].filter(([, group]) =>
      isOver(group, Math.max(0.1, tenantShare / count)),
    )
    return [...(isOver(own, tenantShare) ? [tenant] : []), ...over.map(([keyId]) => keyId)]
  })
}

test.each(Array.from({ length: 20 }, (_, index) => index + 1))(
  'with %i keys no key and no tenant gives more than its share, and no text is drawn twice',
  (count) => {
    for (let seed = 0; seed < 20; seed++) {
      const random = createRandom(1_000 * count + seed)
      const tenants = 1 + Math.floor(random() * count)
      const texts = shuffled(
        Array.from({ length: count }, (_, key) => {
          const [own, size] = [
            1 + Math.floor(random() ** 3 * 300),
            50 + Math.floor(random() ** 2 * (PIECE - 50)),
          ]
          return sent(`key ${key}`, own, size, { tenant: `tenant ${key % tenants}` })
        }).flat(),
        random,
      )
      const drawn = draw(texts)
      expect(new Set(drawn.map(({ hash }) => hash)).size).toBe(drawn.length)
      expect(draw(texts)).toEqual(drawn)
      const all = sum(drawn)
      const needed = tenants === 1 && count < 10 ? Math.min(sum(texts), DEMAND / 5) : 0
      expect(all).toBeGreaterThanOrEqual(needed)
      expect(overdrawn(texts, drawn, tenants)).toEqual([])
    }
  },
)
