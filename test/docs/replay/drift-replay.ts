/**
 * Replays streams of scored requests through the drift detectors: how often they alarm for a stream that does not change, and
 * after how many requests for one that does. Each request draws the losses that one text had in `docs/results/drift/windows.json`
 * under the dense weights, a mask and a damaged copy of it.
 */
import { ADWIN } from '../../../gateway/src/adaptation/drift/detectors/adwin.ts'
import {
  DetectorPair,
  startDetectors,
  type Alarm,
} from '../../../gateway/src/adaptation/drift/detectors/detector-pair.ts'
import { PAGE_HINKLEY } from '../../../gateway/src/adaptation/drift/detectors/page-hinkley.ts'
import { OBSERVATIONS_PER_MINUTE, SIGNALS } from '../../../gateway/src/adaptation/drift/detectors/signals.ts'
import type { DriftSignalName } from '../../../gateway/src/contracts/detector-state.ts'
import { createRandom } from '../../support/harness/random.ts'

/** `docs/results/drift/windows.json`: losses of texts as long as requests, nats a token, by weights and source. */
export interface DriftWindows {
  model: string
  method: string
  pattern: string
  damaged_blocks: number[]
  sources: Record<string, string>
  tokens: Record<string, number[]>
  losses: Record<'dense' | 'pruned' | 'damaged', Record<string, number[]>>
}

/** The most that the service reads in thirty days: see `OBSERVATIONS_PER_MINUTE`. */
export const OBSERVATIONS_A_MONTH = OBSERVATIONS_PER_MINUTE * 60 * 24 * 30

/** How requests follow each other: on their own, or in conversations whose texts follow each other in the source. */
export type Arrivals = keyof typeof MESSAGES
/** Mean number of scored messages in a conversation; it is geometrically distributed. */
const MESSAGES = { single: 1, conversations: 4, 'long conversations': 16 } as const

/** The losses of a source's requests as the detectors see them, nats a token. */
export interface ScoredText {
  dense: number
  gap: number
}

/** A stream that does not change. */
export interface StationaryCase {
  source: string
  arrivals: Arrivals
  months: number
}

/** How often the detectors alarmed in a {@link StationaryCase}, by signal. */
export interface StationaryResult extends StationaryCase {
  alarms: Record<DriftSignalName, number>
  /** Upper bound of the alarms of both signals together in a month, 95 %. */
  perMonthUpper: number
}

/** Requests by which a test repeats a stream that does not change. */
const WINDOWS = 10_000

/** A stream that changes after {@link BEFORE} requests. */
export interface ChangeCase {
  name: string
  from: string
  /** The kind of change, which acts by the requests since then. */
  change: 'switch' | 'damage' | 'worse' | 'decline'
  /** The source after a switch; nats a token for `worse`, and per thousand requests for `decline`. */
  to: string | number
  runs: number
}

/** Requests until the first alarm of each signal after a change, in the runs that gave one. */
export interface ChangeResult extends ChangeCase {
  /** Delays of the first five runs; null where it did not alarm. */
  first: Record<DriftSignalName, (number | null)[]>
  delays: Record<DriftSignalName, { alarmed: number; median: number | null; nineInTen: number | null }>
}

/** Requests before a change, which is the mean of what a domain has after days. */
const BEFORE = 3_000
/** Requests after a change within which an alarm counts; ordinary false alarms are too rare to matter. */
const AFTER = 5_000
const FIRST_RUNS = 5
const SIGNAL_NAMES = ['dense', 'gap'] as const

/** Returns the texts of a source, in the order of the source. */
export function textsOf(
  { losses }: DriftWindows,
  source: string,
  weights: 'pruned' | 'damaged' = 'pruned',
): ScoredText[] {
  const dense = losses.dense[source] ?? []
  const masked = losses[weights][source] ?? []
  return dense.map((loss, index) => ({
    dense: clip(loss, SIGNALS.dense.bounds),
    gap: clip((masked[index] ?? Number.NaN) - loss, SIGNALS.gap.bounds),
  }))
}

/** Draws texts without end. */
function* stream(
  texts: readonly ScoredText[],
  arrivals: Arrivals,
  random: () => number,
): Generator<ScoredText> {
  for (;;) {
    let at = Math.floor(random() * texts.length)
    do {
      yield texts[at % texts.length] ?? { dense: 0, gap: 0 }
      at += 1
    } while (random() < 1 - 1 / MESSAGES[arrivals])
  }
}

/** Replays a stream that does not change. What an alarm leaves behind is the new normal, as in the service. */
export function replayStationary(
  windows: DriftWindows,
  { source, arrivals, months }: StationaryCase,
): StationaryResult {
  const random = createRandom(seedOf(`${source} ${arrivals}`))
  const alarms = { dense: 0, gap: 0 }
  for (let month = 0; month < months; month += 1) {
    const counted = alarmsIn(textsOf(windows, source), arrivals, OBSERVATIONS_A_MONTH, random)
    for (const signal of SIGNAL_NAMES) alarms[signal] += counted[signal]
  }
  const perMonthUpper = round(poissonUpper(alarms.dense + alarms.gap) / months)
  return { source, arrivals, months, alarms, perMonthUpper }
}

/** Repeats the first {@link WINDOWS} requests of a stationary case. */
export function firstAlarms(
  windows: DriftWindows,
  { source, arrivals }: Pick<StationaryCase, 'source' | 'arrivals'>,
): Record<DriftSignalName, number> {
  return alarmsIn(textsOf(windows, source), arrivals, WINDOWS, createRandom(seedOf(`${source} ${arrivals}`)))
}

/** Returns the upper bound, 95 %, of the mean of a Poisson distribution of which `count` events were seen. */
function poissonUpper(count: number): number {
  const atMost = (mean: number) => {
    let term = Math.exp(-mean)
    let sum = term
    for (let events = 1; events <= count; events += 1) sum += term *= mean / events
    return sum
  }
  let [low, high] = [0, 10 * count + 10]
  while (high - low > 1e-6) {
    const middle = (low + high) / 2
    if (atMost(middle) > 0.05) low = middle
    else high = middle
  }
  return high
}

/** Counts the alarms in some requests of a stream that does not change, from detectors that have read nothing. */
function alarmsIn(
  texts: readonly ScoredText[],
  arrivals: Arrivals,
  requests: number,
  random: () => number,
): Record<DriftSignalName, number> {
  const pairs = startPairs()
  const alarms = { dense: 0, gap: 0 }
  let count = 0
  for (const text of stream(texts, arrivals, random)) {
    for (const signal of SIGNAL_NAMES) if (pairs[signal].add(text[signal], 0)) alarms[signal] += 1
    count += 1
    if (count >= requests) break
  }
  return alarms
}

/** Replays the runs of a change. */
export function replayChange(windows: DriftWindows, changed: ChangeCase): ChangeResult {
  const runs = Array.from({ length: changed.runs }, (_, run) => delaysOf(windows, changed, run))
  const of = (signal: DriftSignalName) => {
    const found = runs.flatMap((run) => run[signal] ?? []).sort((a, b) => a - b)
    const at = (share: number) => found[Math.ceil(share * changed.runs) - 1] ?? null
    return { alarmed: found.length, median: at(0.5), nineInTen: at(0.9) }
  }
  const first = (signal: DriftSignalName) => runs.slice(0, FIRST_RUNS).map((run) => run[signal])
  return {
    ...changed,
    first: { dense: first('dense'), gap: first('gap') },
    delays: { dense: of('dense'), gap: of('gap') },
  }
}

/** Returns the requests from the change to the first alarm of each signal in one run; null where there was none. */
export function delaysOf(
  windows: DriftWindows,
  changed: ChangeCase,
  run: number,
): Record<DriftSignalName, number | null> {
  const random = createRandom(seedOf(`${changed.name} ${run}`))
  const pairs = startPairs()
  const delays: Record<DriftSignalName, number | null> = { dense: null, gap: null }
  const before = stream(textsOf(windows, changed.from), 'single', random)
  for (let count = 0; count < BEFORE; count += 1) {
    const { value } = before.next() as IteratorYieldResult<ScoredText>
    for (const signal of SIGNAL_NAMES) pairs[signal].add(value[signal], 0)
  }
  const after = stream(textsAfter(windows, changed), 'single', random)
  for (let count = 1; count <= AFTER; count += 1) {
    const { value } = after.next() as IteratorYieldResult<ScoredText>
    const text = { ...value, gap: clip(value.gap + addedGap(changed, count), SIGNALS.gap.bounds) }
    for (const signal of SIGNAL_NAMES) if (pairs[signal].add(text[signal], 0)) delays[signal] ??= count
    if (delays.dense !== null && delays.gap !== null) break
  }
  return delays
}

function textsAfter(windows: DriftWindows, { change, from, to }: ChangeCase): ScoredText[] {
  if (change === 'switch') return textsOf(windows, String(to))
  return textsOf(windows, from, change === 'damage' ? 'damaged' : 'pruned')
}

function addedGap({ change, to }: ChangeCase, count: number): number {
  if (change === 'worse') return Number(to)
  return change === 'decline' ? (Number(to) * count) / 1_000 : 0
}

function startPairs(): Record<DriftSignalName, { add(value: number, atMs: number): Alarm | undefined }> {
  return {
    dense: new DetectorPair('dense', startDetectors()),
    gap: new DetectorPair('gap', startDetectors()),
  }
}

/** Bounds a loss as the service does. */
export function clip(value: number, [least, most]: readonly [number, number]): number {
  return Math.min(most, Math.max(least, value))
}

/** Derives a seed from the name of a case. */
export function seedOf(name: string): number {
  return Array.from(name).reduce(
    (seed, letter) => (Math.imul(seed, 31) + (letter.codePointAt(0) ?? 0)) >>> 0,
    17,
  )
}

/** Every source by itself, as a domain. */
export function stationaryCases({ sources }: Pick<DriftWindows, 'sources'>, months = 30): StationaryCase[] {
  return Object.keys(sources).flatMap((source) =>
    (['single', 'conversations', 'long conversations'] as const).map((arrivals) => ({
      source,
      arrivals,
      months,
    })),
  )
}

/** The changes of the table. */
export function changeCases({ sources }: Pick<DriftWindows, 'sources'>, runs = 100): ChangeCase[] {
  const names = Object.keys(sources)
  const [from = ''] = names
  const switches = names.flatMap((before) =>
    names
      .filter((after) => after !== before)
      .map((to) => ({ name: `${before} becomes ${to}`, from: before, change: 'switch' as const, to, runs })),
  )
  const damages = names.map((source) => ({
    name: `damaged mask, ${source}`,
    from: source,
    change: 'damage' as const,
    to: 'damaged',
    runs,
  }))
  const worse = [0.05, 0.1, 0.2].map((to) => ({
    name: `gap ${to} higher, ${from}`,
    from,
    change: 'worse' as const,
    to,
    runs,
  }))
  const declines = [0.02, 0.05].map((to) => ({
    name: `gap rises by ${to} in 1,000 requests, ${from}`,
    from,
    change: 'decline' as const,
    to,
    runs,
  }))
  return [...switches, ...damages, ...worse, ...declines]
}

/** The parameters of the detectors, so that a result names those that it is of. */
export function detectorParameters() {
  return { signals: SIGNALS, page_hinkley: PAGE_HINKLEY, adwin: ADWIN }
}

/** Means and standard deviations over the texts of a source, nats a token. */
export interface DriftSummary {
  source: string
  texts: number
  tokens: number
  dense: [mean: number, deviation: number]
  gap: [mean: number, deviation: number]
  damaged_gap: [mean: number, deviation: number]
}

/** Summarises the measured losses of each source. */
export function summarise(windows: DriftWindows): DriftSummary[] {
  return Object.keys(windows.sources).map((source) => {
    const texts = textsOf(windows, source)
    return {
      source,
      texts: texts.length,
      tokens: (windows.tokens[source] ?? []).reduce((sum, count) => sum + count, 0),
      dense: spreadOf(texts.map(({ dense }) => dense)),
      gap: spreadOf(texts.map(({ gap }) => gap)),
      damaged_gap: spreadOf(textsOf(windows, source, 'damaged').map(({ gap }) => gap)),
    }
  })
}

/** Returns the mean loss of the probe texts under each of the weights, nats a token, as a node reports it. */
export function probeLosses({ losses, tokens }: DriftWindows): Record<string, number> {
  const counts = tokens['probes'] ?? []
  const total = counts.reduce((sum, count) => sum + count, 0)
  return Object.fromEntries(
    Object.entries(losses).map(([weights, bySource]) => {
      const nll = (bySource['probes'] ?? []).reduce(
        (sum, loss, index) => sum + loss * (counts[index] ?? 0),
        0,
      )
      return [weights, round(nll / total)]
    }),
  )
}

function spreadOf(values: readonly number[]): [mean: number, deviation: number] {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return [round(mean), round(Math.sqrt(squares / (values.length - 1)))]
}

function round(value: number): number {
  return Number(value.toFixed(3))
}
