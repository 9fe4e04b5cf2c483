import { Hono } from 'hono'
import { startCanary, startTrial } from '@copal/shared/wire/admin-trials.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { rejectMethod } from '../../middleware/error-responses.ts'
import { endTrial, startTrial as start } from '../../adaptation/trials/trial-control.ts'
import { canaryReport, shadowReport } from '../../adaptation/trials/trial-report.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { readAdminBody } from './admin-body.ts'

/** Creates the routes that start, end and report a canary or a shadow: trials of a mask beside the active one. */
export function trialRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get('/canary', async (c) => {
      const { deps } = c.var
      return c.json(await canaryReport(deps, await findOperatorModel(deps.db, c.req.query('model'))))
    })
    .put('/canary', async (c) => {
      const { deps } = c.var
      return c.json(
        await canaryReport(deps, await start(deps, 'canary', await readAdminBody(c, startCanary))),
      )
    })
    .delete('/canary', async (c) => {
      const { model, ended } = await endTrial(c.var.deps, 'canary', c.req.query('model'))
      return c.json({ model: model.id, ended })
    })
    .all('/canary', rejectMethod('GET', 'PUT', 'DELETE'))
    .get('/shadow', async (c) => {
      const { deps } = c.var
      return c.json(await shadowReport(deps, await findOperatorModel(deps.db, c.req.query('model'))))
    })
    .put('/shadow', async (c) => {
      const { deps } = c.var
      return c.json(await shadowReport(deps, await start(deps, 'shadow', await readAdminBody(c, startTrial))))
    })
    .delete('/shadow', async (c) => {
      const { model, ended } = await endTrial(c.var.deps, 'shadow', c.req.query('model'))
      return c.json({ model: model.id, ended })
    })
    .all('/shadow', rejectMethod('GET', 'PUT', 'DELETE'))
}
