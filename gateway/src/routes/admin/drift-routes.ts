import { Hono } from 'hono'
import { driftQuery } from '@copal/shared/wire/admin.ts'
import { gapsQuery } from '@copal/shared/wire/admin-series.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { listMeanLosses } from '../../storage/db/queries/evaluation-queries.ts'
import { listHoldouts } from '../../storage/db/queries/holdout-queries.ts'
import { listPromotedMasks } from '../../storage/db/queries/mask-queries.ts'
import { sumDrift } from '../../storage/db/queries/usage-total-queries.ts'
import { driftReport } from '../../adaptation/drift/drift-report.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { requireMask } from '../../adaptation/models/require-mask.ts'
import { gapsReport } from '../../usage/series/series-report.ts'

/** Creates the routes that report the cost of pruning: in sum, after each mask, and over time by domain. */
export function driftRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/drift', async (c) => {
      const { db } = c.var.deps
      const { model: id, mask_version: maskVersion, ...page } = validate(driftQuery, c.req.query())
      const model = await findOperatorModel(db, id)
      if (maskVersion !== undefined) await requireMask(db, model.id, maskVersion, 'mask_version')
      const [traffic, promoted, evaluations, holdouts] = await Promise.all([
        sumDrift(db, { model: model.id }),
        listPromotedMasks(db, model.id),
        listMeanLosses(db, model.id),
        listHoldouts(db),
      ])
      return c.json(
        driftReport(
          { model: model.id, activeVersion: model.activeVersion, traffic, promoted, evaluations, holdouts },
          { ...page, maskVersion },
        ),
      )
    })
    .get('/series/gaps', async (c) => {
      const { deps } = c.var
      const { model, ...query } = validate(gapsQuery, c.req.query())
      const { id } = await findOperatorModel(deps.db, model)
      return c.json(await gapsReport(deps, id, query))
    })
}
