import { expect, test } from 'vitest'
import { readObservations } from '../../../../../gateway/src/adaptation/drift/detectors/read-observations.ts'
import type { Observation } from '../../../../../gateway/src/storage/db/queries/detector-queries.ts'
import { createRandom, normals } from '../../../../support/harness/random.ts'

/** Observations of a domain under m1, one a minute, whose dense loss has the given mean for so many of them. */
function observations(...parts: [count: number, dense: number][]): Observation[] {
  const random = createRandom(5)
  return parts.flatMap(([count, mean]) =>
    [...normals(random, count, mean, 0.4)].map((dense, index) => ({
      domain: 'legal',
      maskVersion: 1,
      minuteMs: index * 60_000,
      requests: 1,
      dense,
      gap: 0.3,
    })),
  )
}
const read = (seen: Observation[]) =>
  readObservations({ model: 'm', known: [], held: [], observations: seen, nowMs: 9 })

test('a loss that falls below where it was before its alert ends that one and raises another', () => {
  const { raised } = read(observations([500, 3], [300, 3.6], [300, 2.4]))
  expect(raised.map(({ kind, endedAt }) => [kind, endedAt])).toEqual([
    ['input_drift', 9],
    ['input_drift', null],
  ])
  const [first, second] = raised
  expect([first?.level, second?.level].map((level) => Math.round((level ?? 0) * 5) / 5)).toEqual([3.6, 2.4])
})

test('a loss that comes back to where it was ends its alert and raises none', () => {
  const { raised } = read(observations([500, 3], [300, 3.6], [300, 3]))
  expect(raised.map(({ kind, endedAt }) => [kind, endedAt])).toEqual([['input_drift', 9]])
})

test('reading in one go and minute by minute gives the same states', () => {
  const seen = observations([300, 3], [80, 3.5])
  const whole = read(seen)
  let { states } = read([])
  for (const each of seen)
    ({ states } = readObservations({
      model: 'm',
      known: JSON.parse(JSON.stringify(states)) as typeof states,
      held: [],
      observations: [each],
      nowMs: 9,
    }))
  expect(states).toEqual(whole.states)
})
