import { Hono } from 'hono'
import { setPolicy as setPolicyBody } from '@copal/shared/wire/admin-policy.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { removeAllOwnMasks } from '../../adaptation/own-masks/remove-own-masks.ts'
import { policyReport, setPolicy } from '../../adaptation/policy/set-policy.ts'
import { actorId } from '../../keys/actor-id.ts'
import { readAdminBody } from './admin-body.ts'

/** Creates the routes that show and set the adaptation policy of a model. */
export function policyRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/policy', async (c) => {
      const { deps } = c.var
      const { id } = await findOperatorModel(deps.db, c.req.query('model'))
      return c.json(await policyReport(deps, id))
    })
    .put('/policy', async (c) => {
      const { deps, actor } = c.var
      const { model, revision, ...overrides } = await readAdminBody(c, setPolicyBody)
      const { id } = await findOperatorModel(deps.db, model)
      const report = await setPolicy(deps, id, { overrides, revision }, actorId(deps, actor))
      if (!report.policy.discovery.own_masks)
        await removeAllOwnMasks(deps, id, 'discovery.own_masks is false.', actorId(deps, actor))
      return c.json(report)
    })
}
