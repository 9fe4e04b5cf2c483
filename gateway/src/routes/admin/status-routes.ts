import { Hono } from 'hono'
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { listServedModels } from '../../storage/db/queries/model-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { trialEntry, watchEntry } from '../../adaptation/trials/trial-report.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import { hasConverged, nodeEntry } from '../../fleet/client/node-entry.ts'
import { VERSION } from '../../runtime/version.ts'

/** Creates the route that reports models, nodes and running updates. */
export function statusRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>().get('/status', async (c) => {
    const { db, fleet } = c.var.deps
    const [served, { nodes }, running] = await Promise.all([
      listServedModels(db),
      fleet.snapshot(),
      listRunningUpdates(db),
    ])
    const report: StatusReport = {
      version: VERSION,
      models: served.map(({ model, mask }) => {
        const { canary, shadow } = trialsInForce(model)
        return {
          id: model.id,
          active_version: model.activeVersion,
          previous_version: model.previousVersion,
          sparsity: mask?.sparsity ?? 0,
          context_length: model.contextLength,
          converged: hasConverged(nodes, model),
          canary: canary ? trialEntry(canary) : null,
          shadow: shadow ? trialEntry(shadow) : null,
          watch: watchEntry(model),
        }
      }),
      nodes: nodes.map(nodeEntry),
      updates_running: running.length,
    }
    return c.json(report)
  })
}
