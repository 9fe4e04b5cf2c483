import { AppError } from '@copal/shared/errors.ts'
import { replayedError } from '@copal/shared/wire/signature.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { SignatureUse } from '../../contracts/fleet-object.ts'
import { ensureModel, type ModelState } from '../../storage/db/queries/model-queries.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'

/** The result of a heartbeat that was accepted. */
export interface AcceptedHeartbeat {
  /** State of the node's model in the database. */
  state: ModelState
  /** False if the node must name its methods again. */
  registered: boolean
  /** True if an operator drains the node. */
  drained: boolean
}

/**
 * Registers the model of a heartbeat, and passes the heartbeat to the fleet.
 *
 * Without the database the call fails, but the fleet still counts the heartbeat of a node it knows.
 *
 * @throws AppError `invalid_signature` if the same heartbeat was accepted before; `conflict` if the node has other weights than the registered model, or another process has replaced it
 */
export async function acceptHeartbeat(
  deps: Pick<Deps, 'db' | 'fleet' | 'nowMs'>,
  heartbeat: Heartbeat,
  signature?: SignatureUse,
): Promise<AcceptedHeartbeat> {
  const { nodeId } = heartbeat
  const state = await ensureModel(deps.db, heartbeat.model, deps.nowMs()).catch(async (cause: unknown) => {
    const { replayed } = await deps.fleet.heartbeat(heartbeat, undefined, undefined, signature)
    if (replayed) throw replayedError()
    throw cause
  })
  const { model } = state
  if (model.baseSha256 !== heartbeat.model.baseSha256) {
    throw new AppError(
      'conflict',
      `Node '${nodeId}' serves other weights under the name '${model.id}': their base hash is ` +
        `${heartbeat.model.baseSha256}, but that of the registered model is ${model.baseSha256}. Start the node with ` +
        'the registered weights, or under another model name.',
      { param: 'model.baseSha256' },
    )
  }
  const { registered, drained, replaced, replayed } = await deps.fleet.heartbeat(
    heartbeat,
    model.activeVersion,
    {
      ...trialsInForce(model),
      own: Object.fromEntries(model.domainVersions),
      ...(state.isRollingOut ? { replaced: model.previousVersion ?? 0 } : {}),
    },
    signature,
  )
  if (replayed) throw replayedError()
  if (replaced) {
    throw new AppError(
      'conflict',
      `Another node was started as '${nodeId}' after this one, with the same COPAL_NODE_SECRET, and has replaced it. ` +
        'Stop this node, or give it a name and a secret of its own: `npx copal nodes secret <node id>`.',
      { param: 'process' },
    )
  }
  return { state, registered, drained }
}
