import { expect, test } from 'vitest'
import {
  bytesToTake,
  isEnough,
  tooFewSamples,
} from '../../../../gateway/src/adaptation/updates/text-sufficiency.ts'

test('a quarter of the demand is enough to calibrate on, but at least the two sequences that a node needs', () => {
  const demand = { samples: 16, length: 512 }
  expect(isEnough(4 * 2048, demand)).toBe(true)
  expect(isEnough(4 * 2048 - 1, demand)).toBe(false)
  expect(tooFewSamples('legal', 4 * 2048 - 1, demand).message).toMatch(
    /'legal' has about 2047 tokens of new samples, 1 fewer than the 2048 that are needed/,
  )
  expect(isEnough(4 * 1024, { samples: 4, length: 512 })).toBe(true)
  expect(isEnough(4 * 1023, { samples: 4, length: 512 })).toBe(false)
  expect(isEnough(4 * 511, { samples: 1, length: 512 })).toBe(false)
})

test('an update takes a quarter more than its demand in bytes of English, since the rest is lost to later ones', () => {
  expect(bytesToTake({ samples: 16, length: 512 })).toBe(40_960)
})
