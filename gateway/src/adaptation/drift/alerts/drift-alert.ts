import type { DriftSignalName } from '../../../contracts/detector-state.ts'
import type { AlertRow } from '../../../storage/db/queries/alert-queries.ts'
import { createAlert } from './alert-subject.ts'

/** The series that a drift alert is about, and the change of its mean, nats a token. */
export interface DriftFinding {
  model: string
  domain: string
  signal: DriftSignalName
  /** 0 for `dense`. */
  maskVersion: number
  before: number
  after: number
  detector: 'page_hinkley' | 'adwin'
}

const DETECTOR_NAMES = { page_hinkley: 'Page-Hinkley', adwin: 'ADWIN' } as const

/** Creates the alert of a detector's alarm. */
export function driftAlert(finding: DriftFinding, nowMs: number): AlertRow {
  const { model, domain, signal, maskVersion, before, after, detector } = finding
  const by = `(${DETECTOR_NAMES[detector]})`
  const common = { model, domain, reference: before, level: after }
  if (signal === 'dense') {
    const message =
      `The traffic of '${domain}' changed: its loss under dense weights is ${nats(after)} nats a token and was ` +
      `${nats(before)} ${by}. An update learns the new text; 'npx copal triggers' shows whether one is due.`
    return createAlert({ kind: 'input_drift', message, ...common }, nowMs)
  }
  const message =
    `Pruning costs '${domain}' ${nats(after)} nats a token under mask ${maskVersion} and cost ${nats(before)} ${by}. ` +
    `If its traffic changed too, an update helps: see 'npx copal triggers'. If not, look for a damaged node: see ` +
    `'GET /admin/probes'.`
  return createAlert({ kind: 'gap_drift', message, maskVersion, ...common }, nowMs)
}

function nats(value: number): string {
  return value.toFixed(2)
}
