import { AppError } from '@copal/shared/errors.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { listDatasetsOf } from '../../storage/db/queries/dataset-queries.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { forgetDomain, withdrawDomain } from '../../storage/db/queries/domain-queries.ts'
import { listKeyIds } from '../../storage/db/queries/key-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { createCallBudget, isCallsUsedUp } from '../../calls/call-budget.ts'
import { meterDeps } from '../../calls/metered-deps.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { CallBudget } from '../../contracts/call-budget.ts'
import type { SourceFilter } from '../../contracts/reservoir-object.ts'
import {
  insertPendingDeletions,
  isBeingDeleted,
  REQUEST_RUNNING,
  settlePendingDeletions,
} from '../../storage/db/queries/pending-deletion-queries.ts'
import { deleteDatasetFiles } from '../../storage/artifacts/datasets.ts'
import { deleteStatisticsOf } from '../../storage/artifacts/statistics-files.ts'
import { removeOwnMasksOf } from '../own-masks/remove-own-masks.ts'
import { writeTombstone } from '../sampling/tombstones.ts'
import { nothingDeleted, recordFailedDeletion, type DeletedNumbers } from './deletion-records.ts'
import { deleteFrozenTexts, findAffectedDatasets } from './frozen-texts.ts'

/**
 * Deletes a domain with everything that was stored for it: samples, holdouts, frozen datasets, evaluations and totals.
 * Masks that were chosen with its statistics stay; the next update no longer counts them. A mask of its own no longer serves. What more
 * calls than there are would delete, what an update may have read that began meanwhile, and what a failure leaves, the cron task
 * deletes.
 *
 * @param actor the id of an admin key, for the decision about its own mask
 * @returns whether everything is deleted
 * @throws AppError `conflict` while an update that may read its texts is running
 */
export async function deleteDomain(
  deps: Deps,
  domain: string,
  actor: string = SERVICE_ACTOR,
  calls = createCallBudget(),
): Promise<boolean> {
  const { db } = deps
  const canaries = await requireNoReader(deps, domain)
  // Before anything is deleted. Forgetting the domain forgets this too.
  const ids = await insertPendingDeletions(db, [
    { domain, doneUntil: REQUEST_RUNNING, createdAt: deps.nowMs() },
  ])
  const leave = () => settlePendingDeletions(db, ids, new Map([[domain, '']]), deps.nowMs())
  try {
    const isDone = await deleteStored(meterDeps(deps, calls), domain, actor, canaries)
    if (!isDone) await leave()
    return isDone
  } catch (error) {
    await leave()
    if (isCallsUsedUp(error)) return false
    throw error
  }
}

/**
 * Deletes what is stored for a domain, and then forgets it. If it is interrupted, calling it again continues.
 *
 * @param known the updates that were running before
 * @returns false if another update began meanwhile: it may have frozen texts after they were looked for
 */
export async function deleteStored(
  deps: Deps,
  domain: string,
  actor: string,
  known: ReadonlySet<string>,
): Promise<boolean> {
  await writeTombstone(deps, domain)
  await deps.reservoir(domain).clear()
  // Before the files: updates of other domains may begin until all of them are deleted.
  await withdrawDomain(deps.db, domain)
  const hashes = await listDatasetsOf(deps.db, domain)
  await deleteDatasetFiles(deps, hashes)
  await deleteStatisticsOf(deps, hashes)
  // Before the records, by which a call that continues finds the datasets.
  if (await findNewReader(deps, known)) return false
  await removeOwnMasksOf(deps, domain, 'it was deleted.', actor)
  await forgetDomain(deps.db, domain)
  return true
}

/**
 * Rejects texts for a domain whose deletion goes on: they would be deleted with it.
 *
 * @throws AppError `conflict`
 */
export async function requireNotBeingDeleted({ db }: Pick<Deps, 'db'>, domain: string): Promise<void> {
  if (!(await isBeingDeleted(db, domain))) return
  throw new AppError(
    'conflict',
    `The domain '${domain}' is being deleted. Try again when 'GET /admin/domains' no longer lists it.`,
  )
}

/** Deletes all samples of a domain; frozen texts stay. Returns their number. */
export async function deleteAllSamples(
  deps: Pick<Deps, 'db' | 'reservoir' | 'nowMs'>,
  domain: string,
): Promise<number> {
  await writeTombstone(deps, domain)
  return deps.reservoir(domain).deleteTexts()
}

/** The numbers of texts that were deleted. */
export interface DeletedTexts {
  sampled: number
  /** Texts in datasets and holdouts; a text counts once for each of them that contains it. */
  frozen: number
  /** Whether datasets are left that one call cannot look through; the cron task of every minute goes on. */
  isUnfinished: boolean
}

/**
 * Deletes the texts of a key, a tenant or a request from a domain: samples, frozen datasets and every version of the
 * holdout. A text that another request sent too stays for that one, and no longer names the deleted one.
 *
 * A dataset is replaced by one of its remaining texts, which the next update calibrates on again, so that later
 * statistics and masks do not depend on what was deleted. Texts frozen before datasets recorded keys stay. Of many datasets, the
 * cron task looks through those that are left, and it finishes a call that fails.
 *
 * @param filter at least one field
 * @param calls for looking through the datasets
 * @throws AppError `conflict` while an update that may read the texts is running, or began meanwhile
 */
export async function deleteTexts(
  deps: Deps,
  domain: string,
  filter: Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'>,
  calls = createCallBudget(),
): Promise<DeletedTexts> {
  const canaries = await requireNoReader(deps, domain)
  await writeTombstone(deps, domain, filter)
  // Before anything is deleted, so that a failure loses nothing.
  const ids = await insertPendingDeletions(deps.db, [
    { ...filter, domain, doneUntil: REQUEST_RUNNING, createdAt: deps.nowMs() },
  ])
  const settle = (left: ReadonlyMap<string, string>) =>
    settlePendingDeletions(deps.db, ids, left, deps.nowMs())
  const numbers = nothingDeleted()
  try {
    const doneUntil = await deleteTextsIn(deps, domain, filter, { calls, numbers })
    try {
      await requireNoNewReader(deps, domain, canaries)
    } catch (error) {
      // The caller deletes again.
      if (error instanceof AppError) await settle(new Map())
      throw error
    }
    await settle(new Map(doneUntil === undefined ? [] : [[domain, doneUntil]]))
    const { deleted: sampled, deleted_frozen: frozen } = numbers
    return { sampled, frozen, isUnfinished: doneUntil !== undefined }
  } catch (error) {
    await recordFailedDeletion(deps, domain, filter, new Map([[domain, numbers]]))
    throw error
  }
}

/**
 * Deletes texts from a domain, as far as the budget of calls goes.
 *
 * @param of.numbers counts what was deleted, also if this throws
 * @returns the last dataset that need not be looked through again; undefined if nothing is left to do
 */
async function deleteTextsIn(
  deps: Deps,
  domain: string,
  filter: Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'>,
  { calls, numbers }: { calls: CallBudget; numbers: DeletedNumbers },
): Promise<string | undefined> {
  const { tenant } = filter
  const tenantKeyIds = tenant === undefined ? [] : await listKeyIds(deps.db, tenant)
  const sources = { ...filter, tenantKeyIds }
  numbers.deleted = await deps.reservoir(domain).deleteTexts(sources)
  const metered = meterDeps(deps, calls)
  const found = await findAffectedDatasets(metered, domain, sources, '')
  const isFinished = await deleteFrozenTexts(metered, domain, sources, found.hashes, numbers)
  return isFinished ? found.doneUntil : ''
}

/**
 * Rejects a deletion while an update runs that may read texts. In the state `canary`, which may last hours, an update reads
 * none any more.
 *
 * @returns the ids of the updates whose canary runs
 */
async function requireNoReader({ db }: Pick<Deps, 'db'>, domain: string): Promise<Set<string>> {
  const running = await listRunningUpdates(db)
  const reader = running.find(({ state }) => state !== 'canary')
  if (!reader) return new Set(running.map(({ id }) => id))
  throw new AppError(
    'conflict',
    `Nothing was deleted: update '${reader.id}' is ${UPDATE_STATES[reader.state]} and may read the texts of '${domain}'. Wait until ` +
      `it ends, or cancel it with 'POST /admin/updates/${reader.id}/cancel'.`,
  )
}

/**
 * Rejects a deletion during which an update began: it may have frozen texts after they were looked for.
 *
 * @param known the updates that were running before
 */
async function requireNoNewReader(
  deps: Pick<Deps, 'db'>,
  domain: string,
  known: ReadonlySet<string>,
): Promise<void> {
  const reader = await findNewReader(deps, known)
  if (!reader) return
  throw new AppError(
    'conflict',
    `Update '${reader.id}' began during the deletion and may have frozen texts of '${domain}'. Wait until it ends, or ` +
      `cancel it with 'POST /admin/updates/${reader.id}/cancel', then delete again.`,
  )
}

async function findNewReader({ db }: Pick<Deps, 'db'>, known: ReadonlySet<string>) {
  return (await listRunningUpdates(db)).find(({ id }) => !known.has(id))
}
