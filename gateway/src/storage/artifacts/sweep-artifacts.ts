import type { Deps } from '../../contracts/bindings.ts'
import { inRandomOrder } from '../../runtime/random-order.ts'
import { forgetUnusedDatasets, listUnusedDatasets } from '../db/queries/dataset-queries.ts'
import { countDeleted } from '../db/queries/metric-count-queries.ts'
import {
  findSweepPlace,
  giveUpMasks,
  keepUsedMasks,
  keptClassifiers,
  keptDatasets,
  keptMasks,
  setSweepPlace,
} from '../db/queries/sweep-queries.ts'
import { CLASSIFIER_PREFIX, datasetKey, maskKey } from './artifact-keys.ts'
import { shardAt } from './shards.ts'

type SweepDeps = Pick<Deps, 'calls' | 'db' | 'artifacts' | 'nowMs' | 'maskDays'>

const DAY_MS = 24 * 60 * 60 * 1000
/** Calls that a page takes: its files, which of them are needed, and the deletion of the rest, with its count. */
const PAGE_CALLS = 5
/** Calls that a record without a file takes: its file, which is missing, and its deletion. */
const LOOK_UP_CALLS = 2
/** Calls with which a run finds where the last one ended, and stores where it ends. */
const PLACE_CALLS = 2
/** Pages of a thousand files of one kind that a run reads at most. The next run of their digit goes on after them. */
const MAX_PAGES = 5

/**
 * Deletes masks, datasets and classifiers in R2 that nothing in the database needs.
 *
 * A file younger than a day stays, because it is stored before the database names it. Masks are first given up, and a day later
 * their files are deleted unless they are needed again. Statistics and parts of masks have sweeps of their own.
 */
export async function sweepArtifacts(deps: SweepDeps): Promise<void> {
  const { db, nowMs, maskDays } = deps
  // A run sweeps the files whose hash begins with one digit.
  const shard = shardAt(nowMs(), 1)
  const graceMs = nowMs() - DAY_MS
  await keepUsedMasks(db)
  if (maskDays > 0) await giveUpMasks(db, nowMs() - maskDays * DAY_MS, nowMs())
  await sweep(deps, maskKey(''), shard, (hashes) => keptMasks(db, hashes, graceMs))
  await sweep(deps, datasetKey(''), shard, async (hashes) => {
    // An update that was interrupted may have left some, and so may have a holdout.
    await forgetUnusedDatasets(db, hashes, nowMs())
    return keptDatasets(db, hashes)
  })
  await forgetWithoutFile(deps, shard)
  await sweep(deps, CLASSIFIER_PREFIX, shard, (hashes) => keptClassifiers(db, hashes))
}

/**
 * Deletes the records of datasets that nothing needs and that have no file. A deletion that fails midway leaves some, because it
 * deletes the texts first: while these are stored, their record shows whose they are.
 */
async function forgetWithoutFile({ calls, db, artifacts, nowMs }: SweepDeps, shard: string): Promise<void> {
  // Chosen before the files are looked up: what is frozen meanwhile is not among them, or has a file.
  const unused = await listUnusedDatasets(db, { shard, beforeMs: nowMs() - DAY_MS, nowMs: nowMs() })
  for (const hash of inRandomOrder(unused)) {
    if (calls.left < LOOK_UP_CALLS) return
    if (!(await artifacts.head(datasetKey(hash)))) await forgetUnusedDatasets(db, [hash], nowMs())
  }
}

/** Deletes the files of one kind and digit that are not kept, up to a number of pages from where the last run ended. */
async function sweep(
  { calls, db, artifacts, nowMs }: SweepDeps,
  kind: string,
  shard: string,
  keptOf: (hashes: readonly string[]) => Promise<Set<string>>,
): Promise<void> {
  if (calls.left < PLACE_CALLS + PAGE_CALLS) return
  const prefix = kind + shard
  const begin = await findSweepPlace(db, prefix)
  let [after, deleted] = [begin, 0]
  for (let page = 0; page < MAX_PAGES && calls.left >= PLACE_CALLS + PAGE_CALLS; page += 1) {
    const listed = await artifacts.list({ prefix, ...(after === undefined ? {} : { startAfter: after }) })
    const old = listed.objects.filter(({ uploaded }) => uploaded.getTime() < nowMs() - DAY_MS)
    const hashes = old.map(({ key }) => key.slice(kind.length))
    const kept = hashes.length === 0 ? new Set<string>() : await keptOf(hashes)
    const garbage = hashes.filter((hash) => !kept.has(hash))
    if (garbage.length > 0) await artifacts.delete(garbage.map((hash) => kind + hash))
    deleted += garbage.length
    after = listed.truncated ? listed.objects.at(-1)?.key : undefined
    if (after === undefined) break
  }
  if (after !== begin) await setSweepPlace(db, prefix, after)
  if (deleted > 0) await countDeleted(db, 'file', deleted)
}
