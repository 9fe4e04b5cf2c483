import { expect, test } from 'vitest'
import { fillBucket } from '../../../gateway/src/runtime/token-bucket.ts'

test('a bucket fills with time up to its burst, and loses nothing if the clock is set back', () => {
  const rate = { perMinute: 60, burst: 10 }
  const full = fillBucket(undefined, rate, 0)
  expect(full).toEqual({ left: 10, atMs: 0 })
  const used = { left: 2, atMs: 600_000 }
  expect(fillBucket(used, rate, 603_000)).toEqual({ left: 5, atMs: 603_000 })
  expect(fillBucket(used, rate, 660_000)).toEqual({ left: 10, atMs: 660_000 })
  expect(fillBucket(used, rate, 0)).toEqual({ left: 2, atMs: 0 })
})
