import { Hono } from 'hono'
import { startCanary, startTrial } from '@copal/shared/wire/admin-trials.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { endTrial, startTrial as start } from '../../adaptation/trials/trial-control.ts'
import { canaryReport, shadowReport } from '../../adaptation/trials/trial-report.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { readAdminBody } from './admin-body.ts'

/** Creates the routes that start, end and report a canary or a shadow: trials of a mask beside the active one. */
export function trialRoutes(): Hono<ActorEnv> {
  const app = new Hono<ActorEnv>()
  for (const [kind, report, body] of [
    ['canary', canaryReport, startCanary],
    ['shadow', shadowReport, startTrial],
  ] as const) {
    app
      .get(`/${kind}`, async (c) => {
        const { deps } = c.var
        return c.json(await report(deps, await findOperatorModel(deps.db, c.req.query('model'))))
      })
      .put(async (c) => {
        const { deps } = c.var
        return c.json(await report(deps, await start(deps, kind, await readAdminBody(c, body))))
      })
      .delete(async (c) => {
        const { model, ended } = await endTrial(c.var.deps, kind, c.req.query('model'))
        return c.json({ model: model.id, ended })
      })
  }
  return app
}
