/**
 * Replays what the streams of `drift-replay.ts` leave out: domains so busy that an observation is the mean of many requests,
 * and traffic with a daily rhythm, by the losses of `docs/results/drift/windows.json`.
 */
import {
  DetectorPair,
  startDetectors,
} from '../../../gateway/src/adaptation/drift/detectors/detector-pair.ts'
import { readObservations } from '../../../gateway/src/adaptation/drift/detectors/read-observations.ts'
import { OBSERVATIONS_PER_MINUTE, SIGNALS } from '../../../gateway/src/adaptation/drift/detectors/signals.ts'
import type { AlertRow } from '../../../gateway/src/storage/db/queries/alert-queries.ts'
import type { DetectorRow, Observation } from '../../../gateway/src/storage/db/queries/detector-queries.ts'
import { createRandom } from '../../support/harness/random.ts'
import { clip, seedOf, textsOf, type DriftWindows, type ScoredText } from './drift-replay.ts'

const DAYS = 30
const DAY_MS = 24 * 60 * 60 * 1000
const HOURS = 24
/** The most observations that the service reads of a domain and mask in a day. */
const MAX_A_DAY = OBSERVATIONS_PER_MINUTE * 60 * 24
/** Observations before a decline begins. */
const BEFORE = 3_000
/** The text that a domain mostly has, and the other one in its rhythm. */
const [USUAL, OTHER] = ['speech', 'novel']

/** The share of the other text over a day, which goes from 0 to 1. */
const RHYTHMS = {
  'half of the texts': () => 0.5,
  '35 to 65 % by day and night': (time: number) => 0.5 + 0.15 * Math.sin(2 * Math.PI * time),
  '20 to 80 % by day and night': (time: number) => 0.5 + 0.3 * Math.sin(2 * Math.PI * time),
  'the last tenth of a day': (time: number) => Number(time > 0.9),
  'the last half of a day': (time: number) => Number(time > 0.5),
}

/** Traffic that is the same every day. */
export interface RhythmCase {
  /** What has the other text. */
  rhythm: keyof typeof RHYTHMS
  observationsADay: number
  requestsAnObservation: number
}

/** Alerts that were raised in thirty days of a {@link RhythmCase}. */
export interface RhythmResult extends RhythmCase {
  input: number
  gap: number
}

/** A gap that rises steadily. */
export interface DeclineCase {
  /** Nats a token. */
  riseADay: number
  requestsAnObservation: number
  runs: number
}

/** By how much the gap of a {@link DeclineCase} had risen when it alarmed, nats a token. */
export interface DeclineResult extends DeclineCase {
  alarmed: number
  /** Median of the runs that alarmed within thirty days. */
  rise: number | null
}

/** The cases of the table of rhythms. */
export function rhythmCases(): RhythmCase[] {
  const sizes = [
    [100, 1],
    [1_000, 1],
    [MAX_A_DAY, 1],
    [MAX_A_DAY, 16],
  ] as const
  return (Object.keys(RHYTHMS) as (keyof typeof RHYTHMS)[]).flatMap((rhythm) =>
    sizes.map(([observationsADay, requestsAnObservation]) => ({
      rhythm,
      observationsADay,
      requestsAnObservation,
    })),
  )
}

/** The cases of the table of declines. */
export function declineCases(runs = 20): DeclineCase[] {
  return [0.02, 0.1].flatMap((riseADay) =>
    [1, 4, 16, 64].map((requestsAnObservation) => ({ riseADay, requestsAnObservation, runs })),
  )
}

/** Counts the alerts of traffic with a daily rhythm. */
export function replayRhythm(windows: DriftWindows, situation: RhythmCase): RhythmResult {
  const { rhythm, observationsADay: daily, requestsAnObservation } = situation
  const random = createRandom(seedOf(JSON.stringify(situation)))
  const usual = textsOf(windows, USUAL)
  const other = textsOf(windows, OTHER)
  let known: readonly DetectorRow[] = []
  let held: readonly AlertRow[] = []
  const result = { ...situation, input: 0, gap: 0 }
  for (let hour = 0; hour < DAYS * HOURS; hour += 1) {
    const observations: Observation[] = []
    for (let at = Math.ceil((hour * daily) / HOURS); at < ((hour + 1) * daily) / HOURS; at += 1) {
      const share = RHYTHMS[rhythm]((at % daily) / daily)
      const draw = () => drawText(random() < share ? other : usual, random)
      const minuteMs = (at * DAY_MS) / daily
      const loss = meanOf(requestsAnObservation, draw)
      observations.push({ domain: 'domain', maskVersion: 1, minuteMs, requests: 1, ...loss })
    }
    const nowMs = ((hour + 1) * DAY_MS) / HOURS
    const { states, raised, ended } = readObservations({ model: 'model', known, held, observations, nowMs })
    if (states.length > 0) known = states
    held = [...held, ...raised].filter(({ id, endedAt }) => endedAt === null && !ended.includes(id))
    for (const { kind } of raised) result[kind === 'input_drift' ? 'input' : 'gap'] += 1
  }
  return result
}

/** Replays the runs of a decline. */
export function replayDecline(windows: DriftWindows, situation: DeclineCase): DeclineResult {
  const rises = Array.from({ length: situation.runs }, (_, run) => riseAtAlarm(windows, situation, run))
  const found = rises.filter((rise) => rise !== null).sort((a, b) => a - b)
  const median = found[Math.floor((found.length - 1) / 2)]
  return {
    ...situation,
    alarmed: found.length,
    rise: median === undefined ? null : Number(median.toFixed(3)),
  }
}

/** Returns by how much the gap had risen at the first alarm of a run; null if there was none in thirty days. */
export function riseAtAlarm(
  windows: DriftWindows,
  { riseADay, requestsAnObservation }: DeclineCase,
  run: number,
): number | null {
  const random = createRandom(seedOf(`decline ${riseADay} ${requestsAnObservation} ${run}`))
  const texts = textsOf(windows, USUAL)
  const detectors = new DetectorPair('gap', startDetectors())
  for (let at = -BEFORE; at < DAYS * MAX_A_DAY; at += 1) {
    const rise = (riseADay * Math.max(0, at)) / MAX_A_DAY
    const { gap } = meanOf(requestsAnObservation, () => drawText(texts, random, rise))
    if (detectors.add(gap, 0)) return rise
  }
  return null
}

function drawText(texts: readonly ScoredText[], random: () => number, rise = 0): ScoredText {
  const { dense, gap } = texts[Math.floor(random() * texts.length)] ?? { dense: Number.NaN, gap: Number.NaN }
  return { dense, gap: clip(gap + rise, SIGNALS.gap.bounds) }
}

function meanOf(count: number, draw: () => ScoredText): ScoredText {
  const sum = { dense: 0, gap: 0 }
  for (let at = 0; at < count; at += 1) {
    const { dense, gap } = draw()
    sum.dense += dense
    sum.gap += gap
  }
  return { dense: sum.dense / count, gap: sum.gap / count }
}
