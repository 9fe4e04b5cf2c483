import { Hono } from 'hono'
import type { AppEnv } from '../../context.ts'
import { listEvaluations } from '../../db/queries/evaluations.ts'
import { listPromotedMasks } from '../../db/queries/masks.ts'
import { sumDrift } from '../../db/queries/usage-totals.ts'
import { driftReport } from '../../drift/report.ts'
import { refuseMethod } from '../../middleware/errors.ts'
import { resolveModel } from '../../updates/model.ts'

/** What pruning costs, now and after each mask. */
export function driftRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get('/drift', async (c) => {
      const { db } = c.var.deps
      const model = await resolveModel(db, c.req.query('model'))
      const [traffic, promoted, evaluations] = await Promise.all([
        sumDrift(db, { model: model.id }),
        listPromotedMasks(db, model.id),
        listEvaluations(db, model.id),
      ])
      return c.json(
        driftReport({ model: model.id, activeVersion: model.activeVersion, traffic, promoted, evaluations }),
      )
    })
    .all('/drift', refuseMethod('GET'))
}
