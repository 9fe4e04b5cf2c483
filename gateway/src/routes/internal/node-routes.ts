import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { heartbeat, type HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { cachedResponse, receiptBatch } from '@copal/shared/wire/receipts.ts'
import { responseKey } from '../../inference/cache/cache-key.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { ensureModel, findModelState } from '../../storage/db/queries/model-queries.ts'
import { rejectMethod } from '../../middleware/errors.ts'
import { readFromNode } from '../../middleware/signed-calls.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import { applyJobReports } from '../../adaptation/updates/job-reports.ts'
import { jobsForNode } from '../../adaptation/updates/job-assignment.ts'
import { settleReceipts } from '../../usage/settlement/receipt-settlement.ts'
import { settleShadowScores } from '../../usage/settlement/shadow-score-settlement.ts'

const MAX_BODY_BYTES = 4 * 1024 * 1024

/** What nodes say to the gateway, all of it signed: mounted at `/internal/nodes`. */
export function nodeRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .post('/heartbeat', async (c) => {
      const { deps } = c.var
      const beat = await readFromNode(c, heartbeat, MAX_BODY_BYTES)
      const state = await ensureModel(deps.db, beat.model, deps.nowMs()).catch(async (cause: unknown) => {
        // The nodes that are known go on serving while the database does not answer.
        await deps.fleet.heartbeat(beat, undefined)
        throw cause
      })
      const { model } = state
      if (model.baseSha256 !== beat.model.baseSha256) {
        throw new AppError(
          'conflict',
          `Node '${beat.nodeId}' serves other weights under the name '${model.id}': their base hash is ` +
            `${beat.model.baseSha256}, that of the registered model is ${model.baseSha256}. Start the node with ` +
            'the registered weights, or under another model name.',
          { param: 'model.baseSha256' },
        )
      }
      const { registered, drained, replaced } = await deps.fleet.heartbeat(
        beat,
        model.activeVersion,
        trialsInForce(model),
      )
      if (replaced) {
        throw new AppError(
          'conflict',
          `Another node was started as '${beat.nodeId}' after this one, with the same COPAL_NODE_SECRET, and has its ` +
            'place. Stop this one, or give it a name and a secret of its own: `npx copal nodes secret <node id>`.',
          { param: 'process' },
        )
      }
      await settleShadowScores(deps, beat)
      await applyJobReports(deps, beat.nodeId, beat.jobs)
      // A report can have promoted a mask: the node shall hear of it now and not at its next beat.
      const { desired, isUpdating } =
        beat.jobs.length > 0 ? ((await findModelState(deps.db, model.id)) ?? state) : state
      const worker = { ...beat, draining: beat.draining || drained }
      const jobs = isUpdating ? await jobsForNode(deps, worker) : []
      return c.json<HeartbeatResponse>({ registered, desired, jobs })
    })
    .all('/heartbeat', rejectMethod('POST'))
    .post('/receipts', async (c) => {
      const { deps } = c.var
      const batch = await readFromNode(c, receiptBatch, MAX_BODY_BYTES)
      return c.json({ settled: await settleReceipts(deps, batch) })
    })
    .all('/receipts', rejectMethod('POST'))
    .post('/answers', async (c) => {
      const { deps } = c.var
      const told = await readFromNode(c, cachedResponse, MAX_BODY_BYTES)
      const { tenant, key, ttlMs, attestation, body: text, ...answer } = told
      const { nodeId } = told
      if (!(await deps.attestations.isFor(attestation, { nodeId, what: { answer: told } }))) {
        throw new AppError(
          'invalid_request',
          `Node '${nodeId}' was not asked for this answer. It is not kept; those of a node from before answers had ` +
            'attestations are not either: upgrade it.',
          { param: 'attestation' },
        )
      }
      const kept = { ...answer, body: new Uint8Array(new TextEncoder().encode(text)) }
      await deps.responseCache(tenant).keep(responseKey(key, answer.maskVersion), kept, ttlMs)
      return c.json({ kept: true })
    })
    .all('/answers', rejectMethod('POST'))
}
