import { DAY_MS } from '@copal/shared/day.ts'
import type { Deps } from '../../contracts/bindings.ts'
import {
  findUnusedDatasets,
  forgetUnusedDatasets,
  listUnusedDatasets,
} from '../db/queries/dataset-queries.ts'
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
import { DELETION_CALLS, deleteUnclaimed, forgetClaims } from './file-claims.ts'
import { shardAt } from './shards.ts'

type SweepDeps = Pick<Deps, 'calls' | 'db' | 'artifacts' | 'nowMs' | 'maskDays'>

/** Calls that a page takes: its files, which of them are needed, twice, and the deletion of the rest, with its count. */
const PAGE_CALLS = 6 + DELETION_CALLS
/** Calls that the datasets take that nothing needs: which they are, twice, and their deletion, with its count. */
const UNUSED_CALLS = 4 + DELETION_CALLS
/** Calls with which a run finds where the last one ended, and stores where it ends. */
const PLACE_CALLS = 2
/** Pages of a thousand files of one kind that a run reads at most. The next run of their digit goes on after them. */
const MAX_PAGES = 5

/**
 * Deletes masks, datasets and classifiers in R2 that nothing in the database needs.
 *
 * A file younger than a day stays, because it is stored before the database names it, and so does one that was stored again: see
 * {@link claimFile}. Masks are first given up, and a day later their files are deleted unless they are needed again. Statistics and
 * parts of masks have sweeps of their own.
 */
export async function sweepArtifacts(deps: SweepDeps): Promise<void> {
  const { db, nowMs, maskDays } = deps
  // A run sweeps the files whose hash begins with one digit.
  const shard = shardAt(nowMs(), 1)
  const graceMs = nowMs() - DAY_MS
  await forgetClaims(deps)
  await keepUsedMasks(db)
  if (maskDays > 0) await giveUpMasks(db, nowMs() - maskDays * DAY_MS, nowMs())
  await sweep(deps, maskKey(''), shard, (hashes) => keptMasks(db, hashes, graceMs))
  await deleteUnusedOf(deps, shard)
  await sweep(deps, datasetKey(''), shard, (hashes) => keptDatasets(db, hashes))
  await sweep(deps, CLASSIFIER_PREFIX, shard, (hashes) => keptClassifiers(db, hashes))
}

/**
 * Deletes datasets that nothing needs, as an update leaves them that was interrupted. The texts go first: while they are stored, their
 * record shows whose they are. So a deletion that fails midway leaves records without a file, which go here too.
 */
async function deleteUnusedOf(deps: SweepDeps, shard: string): Promise<void> {
  const { calls, db, nowMs } = deps
  if (!calls.reserve(UNUSED_CALLS)) return
  const unused = await listUnusedDatasets(db, { shard, beforeMs: nowMs() - DAY_MS, nowMs: nowMs() })
  const hashesOf = (keys: readonly string[]) => keys.map((key) => key.slice(datasetKey('').length))
  const deleted = await deleteUnclaimed(deps, unused.map(datasetKey), {
    async keptOf(keys) {
      const still = new Set((await findUnusedDatasets(db, hashesOf(keys), nowMs())).map(datasetKey))
      return new Set(keys.filter((key) => !still.has(key)))
    },
    forget: (keys) => forgetUnusedDatasets(db, hashesOf(keys), nowMs()),
  })
  if (deleted > 0) await countDeleted(db, 'file', deleted)
}

/** Deletes the files of one kind and digit that are not kept, up to a number of pages from where the last run ended. */
async function sweep(
  deps: SweepDeps,
  kind: string,
  shard: string,
  keptOf: (hashes: readonly string[]) => Promise<Set<string>>,
): Promise<void> {
  const { calls, db, artifacts, nowMs } = deps
  if (!calls.reserve(PLACE_CALLS + PAGE_CALLS)) return
  const prefix = kind + shard
  const keptKeysOf = async (keys: readonly string[]) => {
    const kept = keys.length === 0 ? [] : await keptOf(keys.map((key) => key.slice(kind.length)))
    return new Set([...kept].map((hash) => kind + hash))
  }
  const begin = await findSweepPlace(db, prefix)
  let [after, deleted] = [begin, 0]
  for (let page = 0; page < MAX_PAGES && calls.reserve(PLACE_CALLS + PAGE_CALLS); page += 1) {
    const listed = await artifacts.list({ prefix, ...(after === undefined ? {} : { startAfter: after }) })
    const old = listed.objects.filter(({ uploaded }) => uploaded.getTime() < nowMs() - DAY_MS)
    const keys = old.map(({ key }) => key)
    const kept = await keptKeysOf(keys)
    const garbage = keys.filter((key) => !kept.has(key))
    deleted += await deleteUnclaimed(deps, garbage, { keptOf: keptKeysOf })
    after = listed.truncated ? listed.objects.at(-1)?.key : undefined
    if (after === undefined) break
  }
  if (after !== begin) await setSweepPlace(db, prefix, after)
  if (deleted > 0) await countDeleted(db, 'file', deleted)
}
