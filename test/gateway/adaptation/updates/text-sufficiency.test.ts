import { expect, test } from 'vitest'
import {
  charactersToTake,
  hasAmpleHoldout,
  requireHoldout,
  requireSamples,
} from '../../../../gateway/src/adaptation/updates/text-sufficiency.ts'

test('a quarter of the demand is enough to calibrate on, but at least the two sequences that a node needs', () => {
  const demand = { samples: 16, length: 512 }
  expect(() => requireSamples('legal', 4 * 2048, demand)).not.toThrow()
  expect(() => requireSamples('legal', 4 * 2048 - 1, demand)).toThrow(
    /'legal' has about 2047 tokens of samples, at least 2048/,
  )
  expect(() => requireSamples('legal', 4 * 1024, { samples: 4, length: 512 })).not.toThrow()
  expect(() => requireSamples('legal', 4 * 1023, { samples: 4, length: 512 })).toThrow(/at least 1024/)
  expect(() => requireSamples('legal', 4 * 511, { samples: 1, length: 512 })).toThrow(/at least 512/)
})

test('a holdout needs a window and a quarter, or four windows if the update does not name its domain', () => {
  expect(() => requireHoldout('legal', 4 * 640, 512)).not.toThrow()
  expect(() => requireHoldout('legal', 4 * 639, 512)).toThrow(
    /'legal' has about 639 tokens of held-out text, at least 640/,
  )
  expect(hasAmpleHoldout(4 * 2048, 512)).toBe(true)
  expect(hasAmpleHoldout(4 * 2047, 512)).toBe(false)
})

test('an update takes twice the demand in characters of English', () => {
  expect(charactersToTake({ samples: 16, length: 512 })).toBe(65_536)
})
