import { isCallsUsedUp } from '../../calls/call-budget.ts'
import { deleteUnusedDatasets } from '../../storage/artifacts/datasets.ts'
import { findDatasets } from '../../storage/db/queries/dataset-queries.ts'
import { findUpdatesInBatches } from '../../storage/db/queries/batch-queries.ts'
import { listUpdatesBefore, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'

type ReleaseDeps = Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>

/**
 * Returns whether an operator may still force an update, so that it keeps its texts for 30 days, or until the next one of its
 * model. A mask of a single domain cannot be forced.
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
 *
 * @throws CallsUsedUp if the event may make no more calls
 */
export async function releaseTexts(deps: ReleaseDeps, update: UpdateRow): Promise<void> {
  try {
    await release(deps, update.model, [update])
  } catch (error) {
    if (isCallsUsedUp(error)) throw error
    console.error(`Cannot give back the texts of update ${update.id}; the next update will:`, error)
  }
}

/** Does as {@link releaseTexts}, without any call for an update that has frozen none: what a late call takes for it, that call gives back. */
export async function releaseFrozenTexts(deps: ReleaseDeps, update: UpdateRow): Promise<void> {
  if (!frozeNothing(update)) await releaseTexts(deps, update)
}

/**
 * Returns whether an update has collected and has no dataset: it has given its texts back, or has none, as that of an imported mask,
 * which may name hundreds of domains.
 */
function frozeNothing({ datasets }: UpdateRow): boolean {
  return datasets?.length === 0
}

/** Releases the texts of all updates of a model that ended before `update` and were not promoted for all domains. */
export async function releaseEarlier(deps: ReleaseDeps, update: UpdateRow): Promise<void> {
  const earlier = await listUpdatesBefore(deps.db, update)
  // It has done the same for those before it.
  const collected = earlier.findIndex(({ datasets }) => datasets !== null && datasets.length > 0)
  const since = collected < 0 ? earlier : earlier.slice(0, collected + 1)
  const kept = since.filter(({ state, ownDomain }) => state !== 'promoted' || ownDomain !== null)
  const named = kept.map((each) =>
    frozeNothing(each)
      ? { ...each, domains: each.domains.filter((domain) => update.domains.includes(domain)) }
      : each,
  )
  await release(deps, update.model, named)
}

/** Gives back what a call that was too late has taken of domains of which a running update has no dataset, once it has collected. */
export async function releaseUncollected(deps: ReleaseDeps, update: UpdateRow): Promise<void> {
  const { model, id: updateId, domains, datasets, state } = update
  if (state === 'collecting') return
  const collected = (await findDatasets(deps.db, datasets ?? [])).map(({ domain }) => domain)
  for (const domain of domains)
    if (!collected.includes(domain)) await deps.reservoir(domain).release(model, [updateId])
}

/** Releases the texts of updates of a model that are in no batch, by one call for each domain. */
async function release(deps: ReleaseDeps, model: string, updates: readonly UpdateRow[]): Promise<void> {
  const inBatches = await findUpdatesInBatches(
    deps.db,
    updates.map(({ id }) => id),
  )
  const released = updates.filter(({ id }) => !inBatches.has(id))
  for (const domain of new Set(released.flatMap(({ domains }) => domains))) {
    const named = released.filter(({ domains }) => domains.includes(domain))
    await deps.reservoir(domain).release(
      model,
      named.map(({ id }) => id),
    )
  }
  await deleteUnusedDatasets(
    deps,
    released.flatMap(({ datasets }) => datasets ?? []),
  )
}
