/** Alerts and the state of drift detectors. Public, so snake_case. */
import { z } from 'zod'
import { count, modelId, time } from './identifiers.ts'

/**
 * The kinds of alerts. `input_drift`: the traffic of a domain changed (loss under dense weights). `gap_drift`: pruning costs
 * a domain more than it did. `probe_mismatch`: a node scores the probe texts unlike the others with the same mask, so its
 * weights may be damaged.
 */
export const alertKind = z.enum(['input_drift', 'gap_drift', 'probe_mismatch'])
/** A kind of alert. */
export type AlertKind = z.output<typeof alertKind>

/** One entry of `GET /admin/alerts`. */
export const alertEntry = z.object({
  id: z.string(),
  kind: alertKind,
  model: z.string(),
  domain: z.string().nullable(),
  mask_version: count.nullable(),
  node: z.string().nullable(),
  message: z.string().describe('What was found and what to do, for people.'),
  raised_at: time,
  ended_at: time.nullable().describe('Null while it holds.'),
})
/** One entry of `GET /admin/alerts`. */
export type AlertEntry = z.output<typeof alertEntry>

/** Query of `GET /admin/alerts`. */
export const alertsQuery = z.object({
  model: modelId.optional().describe('Id of the model. Default: all.'),
  active: z
    .stringbool({ error: "expected 'true' or 'false'" })
    .default(false)
    .describe('`true`: only alerts that hold.'),
  limit: z.coerce.number().int().min(1).max(200).default(100),
})

/** Response of `GET /admin/alerts`: those that hold first, then the newest. */
export const alertsReport = z.object({ alerts: z.array(alertEntry) })
/** A response of `GET /admin/alerts`. */
export type AlertsReport = z.output<typeof alertsReport>

/** The state of one detector, as `GET /admin/detectors` returns it. */
export const detectorEntry = z.object({
  domain: z.string(),
  mask_version: count.describe('The mask whose scores it reads; 0 for `dense`, which all masks share.'),
  signal: z.enum(['dense', 'gap']),
  detector: z.enum(['page_hinkley', 'adwin']),
  observations: count.describe('Scored requests that it has read since it was started anew.'),
  statistic: z.number().describe('Its test statistic.'),
  threshold: z.number().describe('It alarms where the statistic is above.'),
  mean: z.number().nullable().describe('Mean of the signal in its window, nats a token.'),
  alarmed_at: time.nullable().describe('Its last alarm.'),
})
/** The state of one detector. */
export type DetectorEntry = z.output<typeof detectorEntry>

/** Response of `GET /admin/detectors?model=`. */
export const detectorsReport = z.object({ model: z.string(), detectors: z.array(detectorEntry) })
/** A response of `GET /admin/detectors`. */
export type DetectorsReport = z.output<typeof detectorsReport>

/** One node's score of the probe texts, as `GET /admin/probes` returns it. */
export const probeEntry = z.object({
  node: z.string(),
  mask_version: count,
  nll: z.number().describe('Mean loss over the probe texts, nats a token.'),
  expected: z.number().nullable().describe('What the nodes with this mask agree on; null for a single node.'),
  matches: z.boolean(),
  measured_at: time,
})
/** One node's score of the probe texts. */
export type ProbeEntry = z.output<typeof probeEntry>

/** Response of `GET /admin/probes?model=`. */
export const probesReport = z.object({ model: z.string(), probes: z.array(probeEntry) })
/** A response of `GET /admin/probes`. */
export type ProbesReport = z.output<typeof probesReport>
