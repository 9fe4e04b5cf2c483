import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import {
  heartbeat,
  cachedResponse,
  receiptBatch,
  type Heartbeat,
  type HeartbeatResponse,
  type Receipt,
  type ShadowScore,
} from '@copal/shared/wire/node-rpc.ts'
import { answerKey } from '../../inference/cache/cache-key.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { desiredState, ensureModel, findModel } from '../../storage/db/queries/model-queries.ts'
import { insertReceipts, type StoredReceipt } from '../../storage/db/queries/receipt-queries.ts'
import { insertShadowScores } from '../../storage/db/queries/shadow-score-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { refuseMethod } from '../../middleware/errors.ts'
import { readFromNode } from '../../middleware/signed-calls.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import { applyJobReports, jobsForNode } from '../../adaptation/updates/job-assignment.ts'

const MAX_BODY_BYTES = 4 * 1024 * 1024

/** What nodes say to the gateway, all of it signed: mounted at `/internal/nodes`. */
export function nodeRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .post('/heartbeat', async (c) => {
      const { deps } = c.var
      const beat = await readFromNode(c, heartbeat, MAX_BODY_BYTES)
      const model = await ensureModel(deps.db, beat.model, deps.nowMs()).catch(async (cause: unknown) => {
        // The nodes that are known go on serving while the database does not answer.
        await deps.fleet.heartbeat(beat, undefined)
        throw cause
      })
      if (model.baseSha256 !== beat.model.baseSha256) {
        throw new AppError(
          'conflict',
          `Node '${beat.nodeId}' serves other weights under the name '${model.id}': their base hash is ` +
            `${beat.model.baseSha256}, that of the registered model is ${model.baseSha256}. Start the node with ` +
            'the registered weights, or under another model name.',
          { param: 'model.baseSha256' },
        )
      }
      const { drained, replaced } = await deps.fleet.heartbeat(
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
      await keepShadows(deps, beat)
      await applyJobReports(deps, beat.nodeId, beat.jobs)
      // A report can have promoted a mask: the node shall hear of it now and not at its next beat.
      const current = beat.jobs.length > 0 ? ((await findModel(deps.db, model.id)) ?? model) : model
      const worker = { ...beat, draining: beat.draining || drained }
      const [desired, jobs] = await Promise.all([desiredState(deps.db, current), jobsForNode(deps, worker)])
      const answer: HeartbeatResponse = { desired, jobs }
      return c.json(answer)
    })
    .all('/heartbeat', refuseMethod('POST'))
    .post('/receipts', async (c) => {
      const { deps } = c.var
      const batch = await readFromNode(c, receiptBatch, MAX_BODY_BYTES)
      const receipts = await markSuperseded(
        deps,
        await onlyGiven(deps, batch.nodeId, batch.receipts, 'receipts'),
      )
      const settled = await insertReceipts(deps.db, batch.nodeId, receipts, 'node', deps.nowMs())
      await deps.fleet.settle(
        receipts.map(({ requestId, promptTokens, completionTokens, finishReason }) => ({
          requestId,
          tokens: promptTokens + completionTokens,
          done: isDone(finishReason),
        })),
      )
      return c.json({ settled })
    })
    .all('/receipts', refuseMethod('POST'))
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
      await deps.responseCache(tenant).keep(answerKey(key, answer.maskVersion), kept, ttlMs)
      return c.json({ kept: true })
    })
    .all('/answers', refuseMethod('POST'))
}

/** What a node tells of requests that it was called with, as it was; the rest counts for nothing. */
async function onlyGiven<T extends Receipt | ShadowScore>(
  deps: Pick<Deps, 'attestations'>,
  nodeId: string,
  told: readonly T[],
  what: string,
): Promise<Omit<T, 'attestation'>[]> {
  const checked = await Promise.all(
    told.map(async ({ attestation, ...rest }) => ({
      rest,
      isGood: await deps.attestations.isFor(attestation, { nodeId, what: { request: rest } }),
    })),
  )
  const bad = checked.filter(({ isGood }) => !isGood).map(({ rest }) => rest.requestId)
  if (bad.length > 0)
    console.error(
      `${bad.length} of ${told.length} ${what} of node '${nodeId}' count for nothing: they are of requests that it was not called with, ` +
        `or not like that. The first is ${bad[0]}.`,
    )
  return checked.filter(({ isGood }) => isGood).map(({ rest }) => rest)
}

function isDone(finishReason: StoredReceipt['finishReason']): boolean {
  return finishReason === 'stop' || finishReason === 'length'
}

/** What another node was asked for is no request of its own, however it ended: it did not reach its client. */
async function markSuperseded(
  deps: Pick<Deps, 'fleet'>,
  receipts: readonly StoredReceipt[],
): Promise<readonly StoredReceipt[]> {
  const failed = receipts.filter(({ finishReason }) => finishReason === 'error')
  const superseded = new Set(await deps.fleet.superseded(idsOf(receipts), idsOf(failed)))
  return receipts.map((receipt) =>
    superseded.has(receipt.requestId) ? { ...receipt, finishReason: 'superseded' } : receipt,
  )
}

function idsOf(receipts: readonly StoredReceipt[]): string[] {
  return receipts.map(({ requestId }) => requestId)
}

/** Scores of answers are samples: where they cannot be stored they are lost, and nothing else is. */
async function keepShadows(
  deps: Pick<Deps, 'db' | 'nowMs' | 'attestations'>,
  { nodeId, model, shadows = [] }: Heartbeat,
) {
  try {
    const own = shadows.filter((score) => score.model === model.id)
    await insertShadowScores(deps.db, await onlyGiven(deps, nodeId, own, 'scores'), deps.nowMs())
  } catch (error) {
    console.error(`${shadows.length} scores of node '${nodeId}' under a mask on trial are lost:`, error)
  }
}
