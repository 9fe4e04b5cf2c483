import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
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

type FrozenTextDeps = Pick<Deps, 'db' | 'artifacts' | 'nowMs'>

/**
 * Calls to R2, D1 and Durable Objects that a deletion may still make. Cloudflare allows a request or an event a thousand, and
 * those of a cron event are shared by its tasks.
 */
export interface CallBudget {
  calls: number
}

/** The calls of a deletion that an API request begins. */
export const REQUEST_CALLS = 700
/** The calls that replacing a dataset takes, with the deletion of two artifacts of statistics. */
const REPLACEMENT_CALLS = 16

/**
 * Finds the datasets of a domain, also its holdouts, that contain matching texts, in the order of their hashes, as far as the
 * budget goes. It leaves enough of the budget for {@link deleteFrozenTexts}.
 *
 * @param walk.after only later hashes than this one
 * @returns `doneUntil`: the last dataset that was looked through; undefined if none is left
 */
export async function findAffectedDatasets(
  deps: Pick<FrozenTextDeps, 'db' | 'artifacts'>,
  domain: string,
  sources: SourceFilter,
  { after, budget }: { after: string; budget: CallBudget },
): Promise<{ hashes: string[]; doneUntil: string | undefined }> {
  const hashes: string[] = []
  let last = after
  budget.calls -= 1
  const limit = Math.max(1, budget.calls)
  for (const hash of await listStoredDatasetsOf(deps.db, domain, { after, limit })) {
    if (budget.calls <= REPLACEMENT_CALLS) return { hashes, doneUntil: last }
    budget.calls -= 1
    const texts = (await readDataset(deps, hash)) ?? []
    if (texts.some((text) => isFrom(text, sources))) {
      hashes.push(hash)
      budget.calls -= REPLACEMENT_CALLS
    }
    last = hash
  }
  return { hashes, doneUntil: undefined }
}

/**
 * Deletes matching texts from some datasets and holdouts of a domain. Call it while no update reads them. If it is interrupted,
 * the current dataset is still found, and calling it again continues.
 *
 * @returns the number of texts; a text counts once for each dataset that contained it
 */
export async function deleteFrozenTexts(
  deps: FrozenTextDeps,
  domain: string,
  sources: SourceFilter,
  hashes: readonly string[],
): Promise<number> {
  let frozen = 0
  for (const hash of hashes) {
    const texts = (await readDataset(deps, hash)) ?? []
    const remaining = texts.flatMap((text) => withoutSources(text, sources) ?? [])
    const replacement =
      remaining.length > 0 ? await freezeRemaining(deps, domain, hash, remaining) : undefined
    await replaceDataset(deps.db, hash, replacement, deps.nowMs())
    // Before the texts, by which a call that continues finds the dataset.
    await deleteStatisticsOf(deps, [hash])
    await deps.artifacts.delete(datasetKey(hash))
    await forgetDatasets(deps.db, [hash])
    frozen += texts.filter((text) => isFrom(text, sources)).length
  }
  return frozen
}

/** Freezes the remaining texts of a dataset, as old as it is, so that they count for as much. */
async function freezeRemaining(
  deps: FrozenTextDeps,
  domain: string,
  hash: string,
  texts: readonly StoredText[],
): Promise<DatasetRef & { characters: number }> {
  const [old] = await findDatasets(deps.db, [hash])
  const nowMs = () => old?.createdAt ?? deps.nowMs()
  const dataset = await freezeDataset({ ...deps, nowMs }, domain, texts)
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
