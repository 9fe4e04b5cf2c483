import { expect, test } from 'vitest'
import {
  hasAmpleHoldout,
  heldOutTokens,
  needsVersion,
  requireHoldouts,
  targetTokens,
} from '../../../../gateway/src/adaptation/holdouts/holdout-rules.ts'

/** Characters of so many tokens, as estimated. */
const tokens = (count: number) => 4 * count
const held = (domain: string, latest: number | undefined, reservoir = 0) => ({
  domain,
  latest: latest === undefined ? undefined : tokens(latest),
  reservoir: tokens(reservoir),
})

test.each([
  ['the first text', undefined, 1, true],
  ['no text', undefined, 0, false],
  ['a quarter more', 4_000, 5_000, true],
  ['less than a quarter more', 4_000, 4_999, false],
  ['less text, because some expired', 4_000, 100, false],
  ['much more than a version of the target size', 8_192, 40_000, false],
  ['a quarter more than a version just below the target', 8_191, 10_239, true],
])('a domain gets a new version for %s: %s of %s tokens', (_name, latest, reservoir, expected) => {
  expect(needsVersion(held('legal', latest, reservoir))).toBe(expected)
})

test.each([
  ['half more than a version of that size', 8_192, 12_288, 32_768, true],
  ['less than half more', 8_192, 12_287, 32_768, false],
  ['half more than a version just below its target', 20_000, 30_000, 20_001, true],
  ['any more than a version of its target', 20_000, 32_768, 20_000, false],
])(
  'a domain with a larger target gets a new version for %s: %s of %s tokens',
  (_name, latest, reservoir, target, expected) => {
    expect(needsVersion({ ...held('legal', latest, reservoir), target })).toBe(expected)
  },
)

test('a holdout grows by its share of the traffic to a part of 65,536 tokens, between 8,192 and 32,768', () => {
  expect([0, 1 / 8, 1 / 4, 0.4, 1 / 2, 1].map(targetTokens)).toEqual([
    8_192, 8_192, 16_384, 26_214.4, 32_768, 32_768,
  ])
})

test('the tokens of a domain are those of the version that masks would be evaluated on', () => {
  expect(heldOutTokens(held('legal', 4_000, 4_500))).toBe(4_000)
  expect(heldOutTokens(held('legal', 4_000, 6_000))).toBe(6_000)
  expect(heldOutTokens(held('legal', undefined, 90_000))).toBe(32_768)
  expect(heldOutTokens(held('legal', undefined))).toBe(0)
})

test('a domain with fewer than 1,024 held-out tokens is not updated alone, and the error says how much is missing', () => {
  expect(() => requireHoldouts([held('legal', 1_024)], 512)).not.toThrow()
  expect(() => requireHoldouts([held('legal', undefined, 1_000)], 512)).toThrow(
    /'legal' has about 1000 tokens of held-out text, 24 fewer than the 1024 that are needed to judge a mask by this domain alone/,
  )
  // The window of a model with a long context may ask for more.
  expect(() => requireHoldouts([held('legal', 1_024)], 1_000)).toThrow(/226 fewer than the 1250/)
})

test('of several domains one must have 1,024 tokens, and each of the others a window and a quarter', () => {
  const large = held('legal', 1_024)
  expect(() => requireHoldouts([held('mail', 640), large], 512)).not.toThrow()
  expect(() => requireHoldouts([held('mail', 639), large], 512)).toThrow(
    /'mail' .* 1 fewer than the 640 that are needed to evaluate a mask/,
  )
  expect(() => requireHoldouts([held('mail', 700), held('code', 900)], 512)).toThrow(
    /'code' .* 124 fewer than the 1024 that are needed in one of the domains of the update/,
  )
})

test('a domain that the update does not name is evaluated from four windows on', () => {
  expect(hasAmpleHoldout(tokens(2_048), 512)).toBe(true)
  expect(hasAmpleHoldout(tokens(2_048) - 1, 512)).toBe(false)
})
