import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { acceptHeartbeat } from '../../fleet/registration/accept-heartbeat.ts'
import { desiredFor } from '../../fleet/registration/roll-out.ts'
import { NodeEvents } from '../../audit/node-events.ts'
import { heartbeat, type HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import {
  cachedResponse,
  receiptBatch,
  type KeptResponse,
  type SettledReceipts,
} from '@copal/shared/wire/receipts.ts'
import { responseKey } from '../../inference/cache/cache-key.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { findModelState } from '../../storage/db/queries/model-queries.ts'
import { auditNodeCalls } from '../../middleware/audit-node-calls.ts'
import { readNodeReport, requireFirstUse, signatureOf } from '../../middleware/signed-calls.ts'
import { HeartbeatTasks } from '../../calls/heartbeat-tasks.ts'
import { advanceUpdates } from '../../adaptation/updates/advance-update.ts'
import { applyJobReports } from '../../adaptation/updates/job-reports.ts'
import { jobsForNode } from '../../adaptation/updates/job-assignment.ts'
import { isCheckDue } from '../../adaptation/updates/trial-check.ts'
import { watchMasks } from '../../adaptation/updates/mask-watch.ts'
import { settleReceipts } from '../../usage/settlement/receipt-settlement.ts'
import { recordProbes } from '../../adaptation/drift/probes/record-probes.ts'
import { settleShadowScores } from '../../usage/settlement/shadow-score-settlement.ts'

const MAX_BODY_BYTES = 4 * 1024 * 1024
/**
 * The share of the silence that ends requests to a node for which a heartbeat waits for its tasks: they may queue a job for the node,
 * which sends no other heartbeat meanwhile.
 */
const WAIT_SHARE = 1 / 6

/** Creates the routes for the signed reports of nodes; mount them at `/internal/nodes`. */
export function nodeRoutes(): Hono<AppEnv> {
  const events = new NodeEvents()
  const tasks = new HeartbeatTasks()
  const app = new Hono<AppEnv>()
  app.use(auditNodeCalls(events))
  return app
    .post('/heartbeat', async (c) => {
      const { deps } = c.var
      const report = await readNodeReport(c, heartbeat, MAX_BODY_BYTES)
      const { state, registered, drained } = await acceptHeartbeat(deps, report, signatureOf(c))
      const { nodeId, process, url } = report
      // Methods come with the first heartbeats of a process.
      if (!registered || report.methods !== undefined)
        deps.waitUntil(events.record(deps, nodeId, 'started', { process, url }))
      const run = tasks.of(deps, deps.policy.silentMs * WAIT_SHARE)
      const isStored = await run(`Storing what node '${nodeId}' reports`, async (metered) => {
        await settleShadowScores(metered, report)
        await recordProbes(metered, report)
        await applyJobReports(metered, nodeId, report.jobs)
      })
      // Everything else is in its next heartbeat too.
      if (!isStored && report.shadows !== undefined && report.shadows.length > 0)
        console.warn(
          `${report.shadows.length} shadow scores of node '${nodeId}' are lost, because those before are still being stored.`,
        )
      const worker = { ...report, draining: report.draining || drained }
      const { id: model, watch } = state.model
      let mayHaveChanged = false
      if (watch && isCheckDue(watch, deps.nowMs()))
        await run(`The check of the active mask of '${model}'`, async (metered) => {
          await watchMasks(metered, model)
          mayHaveChanged = true
        })
      if (state.isUpdating)
        await run(`The step of the update of '${model}'`, async (metered) => {
          if (await advanceUpdates({ ...metered, isHeartbeat: true }, model)) mayHaveChanged = true
        })
      // These can change the desired masks; the node should get the change in this response.
      const current = mayHaveChanged ? ((await findModelState(deps.db, model)) ?? state) : state
      const desired = await desiredFor(deps, report, current)
      const jobs = current.isUpdating ? await jobsForNode(deps, worker) : []
      return c.json<HeartbeatResponse>({ registered, desired, jobs })
    })
    .post('/receipts', async (c) => {
      const { deps } = c.var
      const batch = await readNodeReport(c, receiptBatch, MAX_BODY_BYTES)
      const settled = await settleReceipts(deps, batch, () => requireFirstUse(c))
      return c.json<SettledReceipts>({ settled })
    })
    .post('/answers', async (c) => {
      const { deps } = c.var
      const report = await readNodeReport(c, cachedResponse, MAX_BODY_BYTES)
      const { tenant, key, ttlMs, attestation, body: text, ...fields } = report
      const { nodeId } = report
      const [isAttested] = await Promise.all([
        deps.attestations.verify(attestation, { nodeId, subject: { answer: report } }),
        requireFirstUse(c),
      ])
      if (!isAttested) {
        throw new AppError(
          'invalid_request',
          `The response was not cached: the gateway did not ask node '${nodeId}' for it, or not of late. If the node is older than ` +
            'the gateway and sends no attestations, upgrade it.',
          { param: 'attestation' },
        )
      }
      const response = { ...fields, body: new Uint8Array(new TextEncoder().encode(text)) }
      await deps.responseCache(tenant).store(responseKey(key, fields.maskVersion), response, ttlMs)
      return c.json<KeptResponse>({ kept: true })
    })
}
