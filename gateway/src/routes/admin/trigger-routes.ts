import { Hono } from 'hono'
import type { ActorEnv } from '../../contracts/context.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { triggersReport } from '../../adaptation/triggers/trigger-report.ts'

/** Creates the route that shows what starts updates by itself, and when. */
export function triggerRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>().get('/triggers', async (c) => {
    const { deps } = c.var
    return c.json(await triggersReport(deps, await findOperatorModel(deps.db, c.req.query('model'))))
  })
}
