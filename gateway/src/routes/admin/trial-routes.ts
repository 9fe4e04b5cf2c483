import { Hono } from 'hono'
import { startTrial } from '@copal/shared/wire/admin-trials.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { rejectMethod } from '../../middleware/errors.ts'
import { endTrial, startTrial as start } from '../../adaptation/trials/trial-control.ts'
import { canaryReport, shadowReport } from '../../adaptation/trials/trial-report.ts'
import { resolveModel } from '../../adaptation/models/resolve-model.ts'
import { readAdmin } from './admin-body.ts'

/** Masks that are tried beside the active one before they are promoted. */
export function trialRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get('/canary', async (c) => {
      const { deps } = c.var
      return c.json(await canaryReport(deps, await resolveModel(deps.db, c.req.query('model'))))
    })
    .put('/canary', async (c) => {
      const { deps } = c.var
      return c.json(await canaryReport(deps, await start(deps, 'canary', await readAdmin(c, startTrial))))
    })
    .delete('/canary', async (c) => {
      const { model, ended } = await endTrial(c.var.deps, 'canary', c.req.query('model'))
      return c.json({ model: model.id, ended })
    })
    .all('/canary', rejectMethod('GET', 'PUT', 'DELETE'))
    .get('/shadow', async (c) => {
      const { deps } = c.var
      return c.json(await shadowReport(deps, await resolveModel(deps.db, c.req.query('model'))))
    })
    .put('/shadow', async (c) => {
      const { deps } = c.var
      return c.json(await shadowReport(deps, await start(deps, 'shadow', await readAdmin(c, startTrial))))
    })
    .delete('/shadow', async (c) => {
      const { model, ended } = await endTrial(c.var.deps, 'shadow', c.req.query('model'))
      return c.json({ model: model.id, ended })
    })
    .all('/shadow', rejectMethod('GET', 'PUT', 'DELETE'))
}
