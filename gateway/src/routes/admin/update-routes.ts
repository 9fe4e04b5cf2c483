import { Hono } from 'hono'
import { createUpdate as updateRequest, forceUpdate as forceRequest } from '@copal/shared/wire/admin.ts'
import type { TrialCourses } from '@copal/shared/wire/admin-trial-course.ts'
import { createCallBudget, untilUsedUp } from '../../calls/call-budget.ts'
import { meterDeps } from '../../calls/metered-deps.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { listDecisionsOf } from '../../storage/db/queries/decision-queries.ts'
import { listJobStates } from '../../storage/db/queries/job-queries.ts'
import { findModel, listModels } from '../../storage/db/queries/model-queries.ts'
import { listUpdates, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { actorId } from '../../keys/actor-id.ts'
import { forceUpdate, isForceable } from '../../adaptation/updates/force.ts'
import { advanceUpdates } from '../../adaptation/updates/advance-update.ts'
import { trialCourses } from '../../adaptation/trials/trial-courses.ts'
import { updateEntry } from '../../adaptation/updates/update-entry.ts'
import {
  cancelUpdate,
  createUpdate,
  requireUpdate,
  beginInRequest,
} from '../../adaptation/updates/update-requests.ts'
import { readAdminBody } from './admin-body.ts'

/** Maximum number of updates in a list. */
const MAX_LISTED_UPDATES = 90

/** Creates the routes that start, list, show, cancel and force updates. */
export function updateRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .post('/updates', async (c) => {
      const { deps } = c.var
      const calls = createCallBudget()
      const update = await createUpdate(meterDeps(deps, calls), await readAdminBody(c, updateRequest))
      deps.waitUntil(beginInRequest(deps, update.id, calls))
      return c.json(await entryWithJobs(deps, update), 201)
    })
    .get('/updates', async (c) => {
      const { db } = c.var.deps
      const updates = await listUpdates(db, MAX_LISTED_UPDATES)
      const jobs = await listJobStates(
        db,
        updates.map(({ id }) => id),
      )
      const byUpdate = Map.groupBy(jobs, ({ updateId }) => updateId)
      const models = updates.some(({ state }) => state === 'canary') ? await listModels(db) : []
      const data = updates.map((update) =>
        updateEntry(update, byUpdate.get(update.id) ?? [], {
          model: models.find(({ id }) => id === update.model),
        }),
      )
      return c.json({ data })
    })
    .get('/updates/:id', async (c) => {
      const { deps } = c.var
      return c.json(await entryWithJobs(deps, await requireUpdate(deps, c.req.param('id'))))
    })
    .get('/updates/:id/trials', async (c) => {
      const { deps } = c.var
      const update = await requireUpdate(deps, c.req.param('id'))
      const trials = await trialCourses(deps, update)
      return c.json({ update: update.id, trials } satisfies TrialCourses)
    })
    .post('/updates/:id/cancel', async (c) => {
      const { deps } = c.var
      return c.json(await entryWithJobs(deps, await cancelUpdate(deps, c.req.param('id'))))
    })
    .post('/updates/:id/force', async (c) => {
      const { deps, actor } = c.var
      const { reason } = await readAdminBody(c, forceRequest)
      const update = await forceUpdate(deps, c.req.param('id'), { reason, actor: actorId(deps, actor) })
      // Its workflow has ended with it; heartbeats and cron continue what this begins.
      const metered = meterDeps(deps, createCallBudget())
      const step = advanceUpdates(metered, update.model)
      deps.waitUntil(untilUsedUp(`The promotion of update ${update.id}`, step))
      return c.json(await entryWithJobs(deps, update))
    })
}

async function entryWithJobs(deps: Deps, update: UpdateRow) {
  const [jobs, decisions, model, forceable] = await readTogether(deps.db, (db) => [
    listJobStates(db, [update.id]),
    listDecisionsOf(db, update.id),
    update.state === 'canary' ? findModel(db, update.model) : undefined,
    isForceable({ ...deps, db }, update),
  ])
  return updateEntry(update, jobs, { decisions, model, forceable })
}
