import { describe, expect, test } from 'vitest'
import { chooseOwnMasks, createDomainUse } from '../../../../gpu-node/src/serving/masks/own-masks.ts'

const own = ['code', 'legal', 'recipes'].map((domain, index) => ({
  domain,
  version: index + 5,
  sha256: String(index).repeat(64),
}))
const chosen = (uses: Record<string, number>, freeBytes: number, held: number[] = []) =>
  chooseOwnMasks(own, {
    freeBytes,
    bytesOf: () => 100,
    useOf: (domain) => uses[domain] ?? 0,
    isHeld: (version) => held.includes(version),
  }).map(({ domain }) => domain)

describe('the masks of single domains that a node holds', () => {
  test('are all of them where they fit, and none where not even one does', () => {
    expect(chosen({}, 300)).toEqual(['code', 'legal', 'recipes'])
    expect(chosen({}, Infinity)).toHaveLength(3)
    for (const freeBytes of [99, 0, -50]) expect(chosen({ code: 9 }, freeBytes)).toEqual([])
  })

  test('are the most used ones where not all fit', () => {
    expect(chosen({ code: 1, legal: 3, recipes: 2 }, 299)).toEqual(['legal', 'recipes'])
    expect(chosen({ recipes: 0.1 }, 100)).toEqual(['recipes'])
  })

  test('replace each other only when another one is used twice as much', () => {
    expect(chosen({ code: 10, legal: 19 }, 100, [5])).toEqual(['code'])
    expect(chosen({ code: 10, legal: 21 }, 100, [5])).toEqual(['legal'])
    expect(chosen({}, 100, [7])).toEqual(['recipes'])
  })
})

test('a request counts half after ten minutes, and a domain without a mask is forgotten', () => {
  let nowMs = 0
  const use = createDomainUse(() => nowMs)
  use.add('code')
  use.add('code')
  use.add('legal')
  expect(use.of('code')).toBe(2)
  nowMs = 600_000
  expect(use.of('code')).toBe(1)
  use.add('code')
  expect(use.of('code')).toBe(2)
  use.keep(['code'])
  expect([use.of('code'), use.of('legal')]).toEqual([2, 0])
})
