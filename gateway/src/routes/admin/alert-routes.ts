import { Hono } from 'hono'
import {
  alertsQuery,
  type AlertsReport,
  type DetectorsReport,
  type ProbesReport,
} from '@copal/shared/wire/admin-alerts.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { alertEntry } from '../../adaptation/drift/alerts/alert-entry.ts'
import { detectorEntries } from '../../adaptation/drift/detectors/detectors-report.ts'
import { probeEntries } from '../../adaptation/drift/probes/probes-report.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { listAlerts } from '../../storage/db/queries/alert-queries.ts'
import { listDetectorStates } from '../../storage/db/queries/detector-queries.ts'
import { listProbeScores, MAX_PROBE_AGE_MS } from '../../storage/db/queries/probe-queries.ts'

/** Creates the routes that show alerts, the drift detectors, and the nodes' scores of the probe texts. */
export function alertRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/alerts', async (c) => {
      const { db } = c.var.deps
      const filter = validate(alertsQuery, c.req.query())
      if (filter.model !== undefined) await findOperatorModel(db, filter.model)
      const rows = await listAlerts(db, filter)
      return c.json({ alerts: rows.map(alertEntry) } satisfies AlertsReport)
    })
    .get('/detectors', async (c) => {
      const { db } = c.var.deps
      const { id: model } = await findOperatorModel(db, c.req.query('model'))
      const detectors = detectorEntries(await listDetectorStates(db, model))
      return c.json({ model, detectors } satisfies DetectorsReport)
    })
    .get('/probes', async (c) => {
      const { deps } = c.var
      const { db } = deps
      const { id: model } = await findOperatorModel(db, c.req.query('model'))
      const rows = await listProbeScores(db, model, deps.nowMs() - MAX_PROBE_AGE_MS)
      return c.json({ model, probes: probeEntries(rows) } satisfies ProbesReport)
    })
}
