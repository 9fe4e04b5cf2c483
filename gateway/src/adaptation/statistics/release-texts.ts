import { deleteUnusedDatasets } from '../../storage/artifacts/datasets.ts'
import { findDatasets } from '../../storage/db/queries/dataset-queries.ts'
import { listBatchesOf } from '../../storage/db/queries/batch-queries.ts'
import { listUpdatesBefore, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'

type ReleaseDeps = Pick<Deps, 'db' | 'artifacts' | 'reservoir'>

/**
 * Returns whether an operator may still force an update, so that it keeps its texts until the next one of its model. A mask of
 * a single domain cannot be forced.
 */
export function keepsTexts({
  errorCode,
  ownDomain,
}: {
  errorCode?: string | null
  ownDomain: string | null
}): boolean {
  return errorCode === 'gate_failed' && ownDomain === null
}

/**
 * Gives the texts of an update that has ended back to the reservoirs, and deletes its datasets, unless they are in a batch.
 * Errors are logged: {@link releaseEarlier} repeats it.
 */
export async function releaseTexts(deps: ReleaseDeps, update: UpdateRow): Promise<void> {
  try {
    await release(deps, update)
  } catch (error) {
    console.error(`Cannot give back the texts of update ${update.id}; the next update will:`, error)
  }
}

/** Releases the texts of all updates of a model that ended before `update` and were not promoted for all domains. */
export async function releaseEarlier(deps: ReleaseDeps, update: UpdateRow): Promise<void> {
  for (const earlier of await listUpdatesBefore(deps.db, update)) {
    if (earlier.state !== 'promoted' || earlier.ownDomain !== null) await release(deps, earlier)
    // It has collected, and so done the same for those before it.
    if (earlier.datasets !== null && earlier.datasets.length > 0) return
  }
}

/** Gives back what a call that was too late has taken of domains of which a running update has no dataset. */
export async function releaseUncollected(deps: ReleaseDeps, update: UpdateRow): Promise<void> {
  const { model, id: updateId, domains, datasets } = update
  if (datasets === null) return
  const collected = (await findDatasets(deps.db, datasets)).map(({ domain }) => domain)
  for (const domain of domains)
    if (!collected.includes(domain)) await deps.reservoir(domain).release(model, [updateId])
}

async function release(deps: ReleaseDeps, update: UpdateRow): Promise<void> {
  if ((await listBatchesOf(deps.db, update.id)).length > 0) return
  const { model, id: updateId } = update
  for (const domain of update.domains) await deps.reservoir(domain).release(model, [updateId])
  await deleteUnusedDatasets(deps, update.datasets ?? [])
}
