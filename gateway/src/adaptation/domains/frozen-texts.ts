import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { SourceFilter, StoredText } from '../../contracts/reservoir-object.ts'
import { datasetKey } from '../../storage/artifacts/artifact-keys.ts'
import { freezeDataset, readDataset } from '../../storage/artifacts/datasets.ts'
import { deleteStatisticsOf } from '../../storage/artifacts/statistics-files.ts'
import {
  findDatasets,
  forgetDatasets,
  listStoredDatasetsOf,
  replaceDataset,
} from '../../storage/db/queries/dataset-queries.ts'
import { matchesFilter } from '../sampling/source-filter.ts'
import type { DeletedNumbers } from './deletion-records.ts'

type FrozenTextDeps = Pick<Deps, 'db' | 'artifacts' | 'nowMs'>

/** The calls that replacing a dataset takes, with the deletion of four artifacts of statistics. */
const REPLACEMENT_CALLS = 25
/** Datasets that are looked through at most at a time. */
const MAX_DATASETS = 1_000
/** The calls that are left for what follows: the audit log, the record of the deletion, which updates run. */
export const LAST_CALLS = 6

/**
 * Finds the datasets of a domain, also its holdouts, that contain matching texts, in the order of their hashes, as far as the
 * budget of calls goes. It leaves enough of it for {@link deleteFrozenTexts}.
 *
 * @param after only later hashes than this one
 * @returns `doneUntil`: the last dataset that was looked through; undefined if none is left
 */
export async function findAffectedDatasets(
  deps: Pick<Deps, 'calls' | 'db' | 'artifacts'>,
  domain: string,
  sources: SourceFilter,
  after: string,
): Promise<{ hashes: string[]; doneUntil: string | undefined }> {
  const hashes: string[] = []
  let last = after
  const limit = Math.max(1, Math.min(MAX_DATASETS, deps.calls.left))
  const listed = await listStoredDatasetsOf(deps.db, domain, { after, limit })
  for (const hash of listed) {
    if (deps.calls.left <= (hashes.length + 1) * REPLACEMENT_CALLS + LAST_CALLS)
      return { hashes, doneUntil: last }
    const texts = (await readDataset(deps, hash)) ?? []
    if (texts.some((text) => isFrom(text, sources))) hashes.push(hash)
    last = hash
  }
  return { hashes, doneUntil: listed.length < limit ? undefined : last }
}

/**
 * Deletes matching texts from some datasets and holdouts of a domain. Call it while no update reads them. If it is interrupted,
 * the current dataset is still found, and calling it again continues.
 *
 * @param numbers counts the texts, also if this throws; one text counts once for each dataset that contained it
 * @returns whether all datasets are done: statistics of one may take more calls than there are
 */
export async function deleteFrozenTexts(
  deps: FrozenTextDeps,
  domain: string,
  sources: SourceFilter,
  hashes: readonly string[],
  numbers: DeletedNumbers,
): Promise<boolean> {
  for (const hash of hashes) {
    try {
      await deleteFrozenTextsOf(deps, domain, sources, hash, numbers)
    } catch (error) {
      if (isCallsUsedUp(error)) return false
      throw error
    }
  }
  return true
}

/** Deletes matching texts from one dataset. */
async function deleteFrozenTextsOf(
  deps: FrozenTextDeps,
  domain: string,
  sources: SourceFilter,
  hash: string,
  numbers: DeletedNumbers,
): Promise<void> {
  const texts = (await readDataset(deps, hash)) ?? []
  const remaining = texts.flatMap((text) => withoutSources(text, sources) ?? [])
  const replacement = remaining.length > 0 ? await freezeRemaining(deps, domain, hash, remaining) : undefined
  await replaceDataset(deps.db, hash, replacement, deps.nowMs())
  // Before the texts, by which a call that continues finds the dataset.
  await deleteStatisticsOf(deps, [hash])
  await deps.artifacts.delete(datasetKey(hash))
  numbers.deleted_frozen += texts.filter((text) => isFrom(text, sources)).length
  await forgetDatasets(deps.db, [hash])
}

/** Freezes the remaining texts of a dataset, as old as it is, so that they count for as much. */
async function freezeRemaining(
  deps: FrozenTextDeps,
  domain: string,
  hash: string,
  texts: readonly StoredText[],
): Promise<DatasetRef & { characters: number }> {
  const [old] = await findDatasets(deps.db, [hash])
  const dataset = await freezeDataset(deps, domain, texts, old?.createdAt)
  return { ...dataset, characters: texts.reduce((sum, { text }) => sum + text.length, 0) }
}

function isFrom({ sources }: StoredText, filter: SourceFilter): boolean {
  return sources.some((source) => matchesFilter(source, filter))
}

/** Returns a text without the matching sources; undefined if it has no other. Texts that name no source stay. */
function withoutSources(text: StoredText, filter: SourceFilter): StoredText | undefined {
  if (!isFrom(text, filter)) return text
  const sources = text.sources.filter((source) => !matchesFilter(source, filter))
  return sources.length > 0 ? { ...text, sources } : undefined
}
