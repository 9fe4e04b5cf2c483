/** The page on drift quotes its replay, and the replay is that of the code. */
import { expect, test } from 'vitest'
import { NODE_TOLERANCE } from '../../gateway/src/adaptation/drift/probes/compare-probes.ts'
import { readText, tableWith } from './markdown.ts'
import {
  changeCases,
  delaysOf,
  detectorParameters,
  firstAlarms,
  OBSERVATIONS_A_MONTH,
  probeLosses,
  stationaryCases,
  summarise,
  type ChangeResult,
  type DriftSummary,
  type DriftWindows,
  type StationaryResult,
} from './replay/drift-replay.ts'
import {
  declineCases,
  replayRhythm,
  rhythmCases,
  riseAtAlarm,
  type DeclineResult,
  type RhythmResult,
} from './replay/drift-rhythm-replay.ts'

const PAGE = 'docs/measurements/drift.md'
const windows = JSON.parse(readText('docs/results/drift/windows.json')) as DriftWindows
const replay = JSON.parse(readText('docs/results/drift/replay.json')) as {
  parameters: object
  observations_a_month: number
  texts: DriftSummary[]
  probes: Record<string, number>
  stationary: StationaryResult[]
  changes: ChangeResult[]
  rhythms: RhythmResult[]
  declines: DeclineResult[]
}

test('the replay has the parameters, the measured losses and the cases of the code', () => {
  expect(replay.parameters).toEqual(detectorParameters())
  expect(replay.observations_a_month).toBe(OBSERVATIONS_A_MONTH)
  expect(replay.texts).toEqual(summarise(windows))
  expect(replay.probes).toEqual(probeLosses(windows))
  expect(replay.stationary).toMatchObject(stationaryCases(windows, replay.stationary[0]?.months))
  expect(replay.changes).toMatchObject(changeCases(windows, replay.changes[0]?.runs))
  expect(replay.rhythms).toMatchObject(rhythmCases())
  expect(replay.declines).toMatchObject(declineCases(replay.declines[0]?.runs))
})

/** Long conversations, one after the other, are reported without a promise. */
const promised = replay.stationary.filter(({ arrivals }) => arrivals !== 'long conversations')

test('a domain that does not change alarms less than once in a month of the most that is read, surely', () => {
  expect(promised).toHaveLength(6)
  for (const { months, perMonthUpper } of promised) {
    expect(months).toBeGreaterThanOrEqual(30)
    expect(perMonthUpper).toBeLessThan(1)
  }
})

test('the code gives no alarm in the first 10,000 requests of a domain that does not change', () => {
  for (const each of promised) expect(firstAlarms(windows, each)).toEqual({ dense: 0, gap: 0 })
})

test('the code gives the first delays of the replay', () => {
  for (const change of replay.changes) {
    const delays = [0, 1].map((run) => delaysOf(windows, change, run))
    expect(delays.map(({ dense }) => dense)).toEqual(change.first.dense.slice(0, 2))
    expect(delays.map(({ gap }) => gap)).toEqual(change.first.gap.slice(0, 2))
  }
})

test('a steady decline alarms in every run before the gap has risen by 0.1 nats, however busy the domain is', () => {
  for (const { runs, alarmed, rise } of replay.declines) {
    expect(alarmed).toBe(runs)
    expect(rise).toBeLessThan(0.1)
  }
  const steep = replay.declines.filter(({ riseADay }) => riseADay === 0.1)
  expect(steep).toHaveLength(4)
  for (const each of steep) expect(riseAtAlarm(windows, each, 0)).toBeLessThan(0.12)
})

test('the code gives the alerts of the replay for traffic with a daily rhythm and few requests', () => {
  const few = replay.rhythms.filter(({ observationsADay }) => observationsADay <= 1_000).slice(-2)
  for (const { input, gap, ...situation } of few) {
    expect(replayRhythm(windows, situation)).toMatchObject({ input, gap })
  }
})

test('a damaged mask alarms by its gap and not by its input, and by the probe texts', () => {
  const damaged = replay.changes.filter(({ change }) => change === 'damage')
  expect(damaged.map(({ runs, delays }) => delays.gap.alarmed / runs)).toEqual(damaged.map(() => 1))
  for (const { runs, delays } of damaged) expect(delays.dense.alarmed / runs).toBeLessThanOrEqual(0.01)
  const { pruned = Number.NaN, damaged: wrong = Number.NaN } = replay.probes
  expect(wrong - pruned).toBeGreaterThan(2 * NODE_TOLERANCE)
})

test(`the tables of ${PAGE} are those of the replay`, () => {
  const page = readText(PAGE)
  const spread = ([mean, deviation]: [number, number]) => `${mean.toFixed(2)} ± ${deviation.toFixed(2)}`
  expect(tableWith(page, 'Text', 'Damaged gap').rows).toEqual(
    replay.texts.map(({ source, texts, tokens, dense, gap, damaged_gap }) => [
      source,
      String(texts),
      String(tokens),
      ...[dense, gap, damaged_gap].map(spread),
    ]),
  )
  expect(tableWith(page, 'Requests', 'Months').rows).toEqual(
    replay.stationary.map(({ source, arrivals, months, alarms, perMonthUpper }) => [
      `${source}, ${arrivals}`,
      String(months),
      String(alarms.dense),
      String(alarms.gap),
      String(perMonthUpper),
    ]),
  )
  const delay = ({ alarmed, median, nineInTen }: ChangeResult['delays']['dense']) => [
    String(alarmed),
    `${median ?? '-'} / ${nineInTen ?? '-'}`,
  ]
  expect(tableWith(page, 'Change', 'Gap alarms').rows).toEqual(
    replay.changes.map(({ name, delays }) => [name, ...delay(delays.dense), ...delay(delays.gap)]),
  )
  expect(tableWith(page, 'Rise a day', 'Rise at the alarm').rows).toEqual(
    replay.declines.map((each) =>
      [each.riseADay, each.requestsAnObservation, each.alarmed, each.rise].map(String),
    ),
  )
  expect(tableWith(page, 'Texts of novel', 'Gap alerts').rows).toEqual(
    replay.rhythms.map((each) =>
      [each.rhythm, each.observationsADay, each.requestsAnObservation, each.input, each.gap].map(String),
    ),
  )
})
