import { Hono } from 'hono'
import { createUpdate as updateRequest } from '@copal/shared/wire/admin.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { listJobsOf } from '../../storage/db/queries/job-queries.ts'
import { listUpdates, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { rejectMethod } from '../../middleware/error-responses.ts'
import { updateEntry } from '../../adaptation/updates/update-entry.ts'
import {
  cancelUpdate,
  createUpdate,
  requireUpdate,
  beginUpdate,
} from '../../adaptation/updates/update-requests.ts'
import { readAdminBody } from './admin-body.ts'

/** Maximum number of updates in a list. */
const MAX_LISTED_UPDATES = 90

/** Creates the routes that start, list, show and cancel updates. */
export function updateRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .post('/updates', async (c) => {
      const { deps } = c.var
      const update = await createUpdate(deps, await readAdminBody(c, updateRequest))
      deps.waitUntil(beginUpdate(deps, update.id))
      return c.json(await entryWithJobs(deps, update), 201)
    })
    .get('/updates', async (c) => {
      const { db } = c.var.deps
      const updates = await listUpdates(db, MAX_LISTED_UPDATES)
      const jobs = await listJobsOf(
        db,
        updates.map(({ id }) => id),
      )
      const byUpdate = Map.groupBy(jobs, ({ updateId }) => updateId)
      return c.json({ data: updates.map((update) => updateEntry(update, byUpdate.get(update.id) ?? [])) })
    })
    .all('/updates', rejectMethod('GET', 'POST'))
    .get('/updates/:id', async (c) => {
      const { deps } = c.var
      return c.json(await entryWithJobs(deps, await requireUpdate(deps, c.req.param('id'))))
    })
    .all('/updates/:id', rejectMethod('GET'))
    .post('/updates/:id/cancel', async (c) => {
      const { deps } = c.var
      return c.json(await entryWithJobs(deps, await cancelUpdate(deps, c.req.param('id'))))
    })
    .all('/updates/:id/cancel', rejectMethod('POST'))
}

async function entryWithJobs(deps: Deps, update: UpdateRow) {
  return updateEntry(update, await listJobsOf(deps.db, [update.id]))
}
