import { DAY_MS } from '@copal/shared/day.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { expireOldDatasets } from '../db/queries/expiry-queries.ts'
import { datasetKey } from './artifact-keys.ts'

/** Datasets of a run at most: R2 deletes a thousand objects at once. */
const DATASETS_PER_RUN = 500

/**
 * Deletes the texts of datasets that updates have calibrated on, when they are old and their statistics are stored. If the
 * deletion in R2 fails, the sweep repeats it.
 */
export async function expireDatasets({
  db,
  artifacts,
  nowMs,
  datasetDays,
}: Pick<Deps, 'db' | 'artifacts' | 'nowMs' | 'datasetDays'>): Promise<void> {
  if (datasetDays === 0) return
  const beforeMs = nowMs() - datasetDays * DAY_MS
  const expired = await expireOldDatasets(db, beforeMs, nowMs(), DATASETS_PER_RUN)
  if (expired.length > 0) await artifacts.delete(expired.map(datasetKey))
}
