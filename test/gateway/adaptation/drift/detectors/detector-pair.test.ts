import { expect, test } from 'vitest'
import {
  DetectorPair,
  startDetectors,
  type Alarm,
} from '../../../../../gateway/src/adaptation/drift/detectors/detector-pair.ts'
import type { DetectorState } from '../../../../../gateway/src/contracts/detector-state.ts'
import { createRandom, normals } from '../../../../support/harness/random.ts'

/** The deviation of a gap, nats a token, where an observation is the mean of 16 requests, whose own deviation is 0.28. */
const BUSY_DEVIATION = 0.07
const NORMAL = 0.4

/** Reads observations of a busy domain, whose true gap is `NORMAL + rise(observation)`, until the first alarm. */
function firstAlarm(
  count: number,
  rise: (observation: number) => number,
  state: DetectorState = startDetectors(),
): (Alarm & { at: number }) | undefined {
  const pair = new DetectorPair('gap', state)
  const noise = normals(createRandom(7), count, NORMAL, BUSY_DEVIATION)
  let at = 0
  for (const value of noise) {
    const alarm = pair.add(value + rise(at), 0)
    if (alarm) return { ...alarm, at }
    at += 1
  }
  return undefined
}

test('a slow decline alarms in a busy domain, where each small step is certain long before it matters', () => {
  const risePerObservation = 1e-5
  const alarm = firstAlarm(30_000, (at) => risePerObservation * at)
  expect((alarm?.at ?? Number.NaN) * risePerObservation).toBeLessThan(0.12)
  expect((alarm?.after ?? 0) - (alarm?.before ?? 0)).toBeGreaterThanOrEqual(0.05)
})

test('two steps that are each too small alarm together, compared with the mean before the first', () => {
  const alarm = firstAlarm(12_000, (at) => (at < 3_000 ? 0 : at < 9_000 ? 0.03 : 0.07))
  expect(alarm?.at).toBeGreaterThan(9_000)
  expect(alarm?.before).toBeCloseTo(NORMAL, 2)
  expect(alarm?.after).toBeCloseTo(NORMAL + 0.07, 1)
})

test('small rises after a fall add up from the level that the fall led to', () => {
  const alarm = firstAlarm(12_000, (at) => (at < 3_000 ? 0.3 : at < 6_000 ? 0 : at < 9_000 ? 0.03 : 0.07))
  expect(alarm?.at).toBeGreaterThan(9_000)
  expect(alarm?.before).toBeCloseTo(NORMAL, 1)
})

test('a small step, one that comes and goes, and no change give no alarm', () => {
  expect(firstAlarm(30_000, (at) => (at < 3_000 ? 0 : 0.03))).toBeUndefined()
  expect(firstAlarm(30_000, (at) => (Math.floor(at / 3_000) % 2 === 0 ? 0 : 0.03))).toBeUndefined()
  expect(firstAlarm(30_000, () => 0)).toBeUndefined()
})

test('a state that an earlier version stored goes on', () => {
  const { beforeSmall: _, ...old } = startDetectors()
  expect(firstAlarm(12_000, (at) => (at < 3_000 ? 0 : at < 9_000 ? 0.03 : 0.07), old)?.at).toBeGreaterThan(
    9_000,
  )
})
