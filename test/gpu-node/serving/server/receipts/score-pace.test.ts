import { expect, test } from 'vitest'
import { createScorePace } from '../../../../../gpu-node/src/serving/server/receipts/score-pace.ts'

test('windows shrink until they are complete in time, and grow again', () => {
  const timeoutMs = 60_000
  const pace = createScorePace(256, timeoutMs)
  /** Scores one text on a node that takes this long a token; returns the window if it was complete. */
  const run = (msPerToken: number) => {
    const tokens = pace.windowTokens(timeoutMs)!
    const tookMs = Math.min(timeoutMs, 2 * tokens * msPerToken)
    pace.record(2 * tokens, tookMs, tookMs < timeoutMs)
    return tookMs < timeoutMs ? tokens : 0
  }
  expect(run(1)).toBe(256)
  expect([run(300), run(300), run(300)]).toEqual([0, 0, 40])
  expect([run(1), run(1)]).toEqual([80, 256])
})

test('a text that waited gets what fits into its time, and is left out when that says too little', () => {
  const pace = createScorePace(256, 60_000)
  pace.record(512, 25_600, true)
  expect(pace.windowTokens(20_000)).toBe(160)
  expect(pace.windowTokens(3_000)).toBeNull()
})

test('a text that did not wait always gets a window, so that a node that was slow finds out that it is not', () => {
  const pace = createScorePace(256, 60_000)
  for (let round = 0; round < 10; round++) pace.record(2 * pace.windowTokens(60_000)!, 60_000, false)
  expect(pace.windowTokens(60_000)).toBe(32)
})
