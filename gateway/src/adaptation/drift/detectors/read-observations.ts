import type { DriftSignalName } from '../../../contracts/detector-state.ts'
import type { AlertRow } from '../../../storage/db/queries/alert-queries.ts'
import type { DetectorRow, Observation } from '../../../storage/db/queries/detector-queries.ts'
import { hasReturned, isReversed } from '../alerts/alert-ends.ts'
import { alertSubject } from '../alerts/alert-subject.ts'
import { driftAlert } from '../alerts/drift-alert.ts'
import { DetectorPair, startDetectors } from './detector-pair.ts'

/** Observations after an alarm before its alert may end. */
const MIN_RETURN = 30

/** The state from which the detectors of a model start. */
export interface DetectorInput {
  model: string
  known: readonly DetectorRow[]
  /** Alerts that hold. */
  held: readonly AlertRow[]
  /** In the order of time. */
  observations: readonly Observation[]
  nowMs: number
}

/** The changes after reading observations. */
export interface DetectorOutput {
  states: DetectorRow[]
  raised: AlertRow[]
  /** Ids of alerts whose signal returned. */
  ended: string[]
}

/** The detectors of one signal while they read. */
interface Series {
  row: DetectorRow
  pair: DetectorPair
}

/**
 * Reads observations into the detectors of their domains: each into that of the dense loss, which all masks share, and into that
 * of its mask's gap. A pure function: the same input gives the same states.
 */
export function readObservations({ model, known, held, observations, nowMs }: DetectorInput): DetectorOutput {
  const series = new Map<string, Series>()
  const holding = new Map(held.map((alert) => [keyOf(alert.kind, alert.subject), alert]))
  const raised: AlertRow[] = []
  const ended: string[] = []

  function seriesOf(domain: string, signal: DriftSignalName, maskVersion: number): Series {
    const key = JSON.stringify([domain, signal, maskVersion])
    const found = series.get(key)
    if (found) return found
    const stored = known.find(
      (each) => each.domain === domain && each.signal === signal && each.maskVersion === maskVersion,
    )
    const row: DetectorRow = {
      model,
      domain,
      signal,
      maskVersion,
      requests: stored?.requests ?? 0,
      state: stored ? structuredClone(stored.state) : startDetectors(),
      updatedAt: nowMs,
    }
    const created = { row, pair: new DetectorPair(signal, row.state) }
    series.set(key, created)
    return created
  }

  function read(of: Series, value: number, { requests, minuteMs }: Observation): void {
    const { row, pair } = of
    const { domain, signal, maskVersion, state } = row
    row.requests += requests
    const alarm = pair.add(value, minuteMs)
    const kind = signal === 'dense' ? 'input_drift' : 'gap_drift'
    const key = keyOf(kind, alertSubject(kind, domain, maskVersion))
    const holds = holding.get(key)
    if (holds && alarm && isReversed(holds, alarm.after)) end(key, holds)
    if (alarm && !holding.has(key)) {
      const alert = driftAlert({ model, domain, signal, maskVersion, ...alarm }, nowMs)
      holding.set(key, alert)
      raised.push(alert)
    }
    if (!holds || state.recent === null || state.pageHinkley.count < MIN_RETURN) return
    if (holding.get(key) !== holds || !hasReturned(holds, state.recent)) return
    end(key, holds)
    pair.restart()
  }

  function end(key: string, alert: AlertRow): void {
    holding.delete(key)
    if (raised.includes(alert)) alert.endedAt = nowMs
    else ended.push(alert.id)
  }

  for (const observation of observations) {
    const { domain, maskVersion, dense, gap } = observation
    read(seriesOf(domain, 'dense', 0), dense, observation)
    // Dense weights serve version 0, at no cost.
    if (maskVersion > 0) read(seriesOf(domain, 'gap', maskVersion), gap, observation)
  }
  return { states: [...series.values()].map(({ row }) => row), raised, ended }
}

function keyOf(kind: string, subject: string): string {
  return `${kind} ${subject}`
}
