import { describe, expect, test } from 'vitest'
import { drawFairly, type DrawableText } from '../../../../gateway/src/adaptation/sampling/fair-draw.ts'
import { createRandom } from '../../../support/harness/random.ts'

const PIECE = 4_096
/** Characters that an update of 128 × 512 tokens takes of a domain. */
const DEMAND = 128 * 512 * 4 * 1.25
const sent = (keyId: string, count: number, characters: number, tenant = 'tenant'): DrawableText[] =>
  Array.from({ length: count }, (_, index) => ({ hash: `${keyId} ${index}`, characters, tenant, keyId }))
const sum = (texts: readonly DrawableText[]) => texts.reduce((all, { characters }) => all + characters, 0)
const draw = (texts: readonly DrawableText[], maxCharacters = DEMAND, maxKeyShare = 0.1) =>
  drawFairly(texts, { maxCharacters, maxKeyShare })
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
    const long = sent('long', 60 * 8, PIECE)
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

test('what small keys do not give is given by larger ones', () => {
  const small = Array.from({ length: 12 }, (_, key) => sent(`small ${key}`, 10, 500)).flat()
  const large = Array.from({ length: 12 }, (_, key) => sent(`large ${key}`, 100, 1_000)).flat()
  const drawn = draw([...small, ...large])
  expect(drawn.filter(({ keyId }) => keyId.startsWith('small'))).toHaveLength(small.length)
  expect(sum(drawn)).toBeGreaterThanOrEqual(DEMAND)
})

test('a tenant that makes many keys gets the share of one tenant', () => {
  const many = Array.from({ length: 60 }, (_, key) => sent(`key ${key}`, 20, 1_000, 'many')).flat()
  const drawn = draw([...many, ...sent('b', 300, 1_000, 'b'), ...sent('c', 300, 1_000, 'c')])
  for (const share of sharesOf(drawn, 'tenant').values()) expect(share).toBeCloseTo(1 / 3, 1)
  const tenants = Array.from({ length: 15 }, (_, name) =>
    sent(`of ${name}`, 40, 1_000, `tenant ${name}`),
  ).flat()
  expect(sharesOf(draw([...many, ...tenants]), 'tenant').get('many')).toBeLessThanOrEqual(0.1)
})

test('texts of the operator have no cap', () => {
  const others = Array.from({ length: 12 }, (_, key) => sent(`key ${key}`, 20, 500)).flat()
  const imported = sent('operator', 400, 1_000, '')
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
  // A fair share may be exceeded by part of a text, and up to a quarter of the text; the least text has a share too.
  const mostOf = (share: number) =>
    share >= 1
      ? Infinity
      : Math.max(share * all + (share > 0.1 ? Math.max(PIECE, DEMAND / 4) : 0), 0.02 * DEMAND) + 1
  const isOver = (group: readonly DrawableText[], share: number) =>
    group.length > 1 && sum(group) > mostOf(share)
  const tenantShare = Math.max(0.1, 1 / tenants)
  return [...Map.groupBy(drawn, ({ tenant }) => tenant)].flatMap(([tenant, own]) => {
    const keys = new Set(texts.filter((text) => text.tenant === tenant).map(({ keyId }) => keyId)).size
    const over = [...Map.groupBy(own, ({ keyId }) => keyId)].filter(([, group]) =>
      isOver(group, Math.max(0.1, tenantShare / keys)),
    )
    return [...(isOver(own, tenantShare) ? [tenant] : []), ...over.map(([keyId]) => keyId)]
  })
}

test.each(Array.from({ length: 20 }, (_, index) => index + 1))(
  'with %i keys no key and no tenant gives more than its share, and no text is drawn twice',
  (keys) => {
    for (let seed = 0; seed < 20; seed++) {
      const random = createRandom(1_000 * keys + seed)
      const tenants = 1 + Math.floor(random() * keys)
      const texts = shuffled(
        Array.from({ length: keys }, (_, key) => {
          const [count, size] = [
            1 + Math.floor(random() ** 3 * 300),
            50 + Math.floor(random() ** 2 * (PIECE - 50)),
          ]
          return sent(`key ${key}`, count, size, `tenant ${key % tenants}`)
        }).flat(),
        random,
      )
      const drawn = draw(texts)
      expect(new Set(drawn.map(({ hash }) => hash)).size).toBe(drawn.length)
      expect(draw(texts)).toEqual(drawn)
      const all = sum(drawn)
      const needed = tenants === 1 && keys < 10 ? Math.min(sum(texts), DEMAND / 5) : 0
      expect(all).toBeGreaterThanOrEqual(needed)
      expect(overdrawn(texts, drawn, tenants)).toEqual([])
    }
  },
)
