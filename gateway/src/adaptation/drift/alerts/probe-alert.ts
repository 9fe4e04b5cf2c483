import type { AlertRow } from '../../../storage/db/queries/alert-queries.ts'
import { createAlert } from './alert-subject.ts'

/** A node whose score of the probe texts does not match, nats a token. */
export interface WrongProbe {
  model: string
  nodeId: string
  maskVersion: number
  nll: number
  /** The expected score, by the other nodes or by the first score of its own process. */
  expected: number
  by: 'nodes' | 'own'
}

/** Creates the alert of a node whose weights may be damaged. */
export function probeAlert(
  { model, nodeId, maskVersion, nll, expected, by }: WrongProbe,
  nowMs: number,
): AlertRow {
  const other = by === 'nodes' ? 'the nodes with this mask agree on' : 'its process measured at first'
  const message =
    `Node '${nodeId}' scores the probe texts at ${nll.toFixed(3)} nats a token under mask ${maskVersion}, and ${other} ` +
    `${expected.toFixed(3)}. Its weights may be damaged: drain it ('npx copal drain ${nodeId}') and restart it.`
  return createAlert(
    { kind: 'probe_mismatch', model, nodeId, maskVersion, message, reference: expected, level: nll },
    nowMs,
  )
}
