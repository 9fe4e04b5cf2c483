import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import { lastFailedJobs } from '../../audit/failed-jobs.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { nodeEntry } from '../../fleet/client/node-entry.ts'

/** Creates the routes that list nodes and drain them. */
export function fleetRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/nodes', async (c) => {
      const { deps } = c.var
      const { nodes } = await deps.fleet.snapshot()
      const names = nodes.map(({ id }) => id)
      const failed = await lastFailedJobs(deps, names)
      return c.json({
        data: nodes.map((node) => ({ ...nodeEntry(node), last_failed_job: failed.get(node.id) ?? null })),
      })
    })
    .put('/nodes/:id/drain', async (c) => c.json(await drain(c.var.deps, c.req.param('id'), true)))
    .delete('/nodes/:id/drain', async (c) => c.json(await drain(c.var.deps, c.req.param('id'), false)))
}

/** @throws AppError `not_found` */
async function drain({ fleet }: Pick<Deps, 'fleet'>, id: string, drained: boolean): Promise<NodeEntry> {
  const isKnown = await fleet.drain(id, drained)
  const { nodes } = await fleet.snapshot()
  const node = nodes.find((each) => each.id === id)
  if (isKnown && node) return nodeEntry(node)
  const nearest = suggestName(
    id,
    nodes.map((each) => each.id),
  )
  throw new AppError(
    'not_found',
    `There is no node '${id}'.${nearest === undefined ? '' : ` Did you mean '${nearest}'?`} 'GET /admin/nodes' lists the nodes.`,
  )
}
