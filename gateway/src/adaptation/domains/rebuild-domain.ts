import { AppError } from '@copal/shared/errors.ts'
import type { RebuiltDomain } from '@copal/shared/wire/admin-domains.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { createCallBudget } from '../../calls/call-budget.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { deleteStatisticsOf } from '../../storage/artifacts/statistics-files.ts'
import { listRebuilt, retireForRebuild } from '../../storage/db/queries/batch-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { withinCalls } from './within-calls.ts'

/**
 * Has the statistics of a domain made anew: nothing that updates have calibrated counts any more, in any model, and the next
 * update may take every text of the reservoir, except those of updates that were rolled back. Holdouts stay, and so do masks.
 * Frozen texts stay until they expire, and count never again. If this is interrupted, calling it again continues.
 *
 * @throws AppError `conflict` while an update runs that reads the statistics, or whose canary counts texts of the domain; or if more
 * is left than the calls are enough for
 */
export async function rebuildDomain(
  deps: Deps,
  domain: string,
  calls = createCallBudget(),
): Promise<RebuiltDomain> {
  return withinCalls(deps, calls, `rebuilding '${domain}'`, (metered) => rebuildWithin(metered, domain))
}

async function rebuildWithin(deps: Deps, domain: string): Promise<RebuiltDomain> {
  const { db } = deps
  await requireNoReader(deps, domain)
  await retireForRebuild(db, domain)
  const rebuilt = await listRebuilt(db, domain)
  const datasets = [...new Set(rebuilt.map(({ datasetSha256 }) => datasetSha256))]
  await deleteStatisticsOf(deps, datasets)
  // Marks of the updates after a rebuild stay when it is repeated.
  const byModel = [...Map.groupBy(rebuilt, ({ model }) => model)].toSorted(([a], [b]) => (a < b ? -1 : 1))
  for (const [model, batches] of byModel) {
    const updateIds = batches.map(({ updateId }) => updateId)
    await deps.reservoir(domain).release(model, updateIds)
  }
  // One that began before the batches were retired kept them.
  await requireNoReader(deps, domain)
  const models: RebuiltDomain['models'] = []
  for (const [model] of byModel) {
    const { triggers } = await findPolicy(deps, model)
    models.push({ model, starts: triggers.enabled && !triggers.dry_run ? 'by_trigger' : 'by_operator' })
  }
  const { samples, characters } = await deps.reservoir(domain).stats()
  return { domain, datasets: datasets.length, samples, characters, models }
}

async function requireNoReader({ db }: Pick<Deps, 'db'>, domain: string): Promise<void> {
  const reader = (await listRunningUpdates(db)).find(
    ({ state, domains }) => state !== 'canary' || domains.includes(domain),
  )
  if (!reader) return
  throw new AppError(
    'conflict',
    `Update '${reader.id}' is ${UPDATE_STATES[reader.state]} and reads the statistics of '${domain}', or counts texts of it. Wait until it ` +
      `ends, or cancel it with 'POST /admin/updates/${reader.id}/cancel', then rebuild the domain again.`,
  )
}
