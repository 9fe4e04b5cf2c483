import { describe, expect, test } from 'vitest'
import { createDomainUse, rankOwnMasks } from '../../../../gpu-node/src/serving/masks/own-masks.ts'

const own = ['code', 'legal', 'recipes'].map((domain, index) => ({
  domain,
  version: index + 5,
  sha256: String(index).repeat(64),
}))
const ranked = (uses: Record<string, number>, held: number[] = []) =>
  rankOwnMasks(own, {
    useOf: (domain) => uses[domain] ?? 0,
    isHeld: (version) => held.includes(version),
  }).map(({ domain }) => domain)

describe('of the masks of single domains', () => {
  test('the most used ones come first', () => {
    expect(ranked({ code: 1, legal: 3, recipes: 2 })).toEqual(['legal', 'recipes', 'code'])
    expect(ranked({ recipes: 0.1 })).toEqual(['recipes', 'code', 'legal'])
    expect(ranked({})).toEqual(['code', 'legal', 'recipes'])
  })

  test('one that is not held comes before one that is held only when it is used twice as much', () => {
    expect(ranked({ code: 10, legal: 19 }, [5])[0]).toBe('code')
    expect(ranked({ code: 10, legal: 21 }, [5])[0]).toBe('legal')
    expect(ranked({}, [7])[0]).toBe('recipes')
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
