import type { Deps } from '../../contracts/bindings.ts'
import { deleteLeftCounts, listUncounted } from '../../storage/db/queries/reservoir-count-queries.ts'
import { countNow } from './domain-counts.ts'

/** Counts that are older than this are counted again, in case a write of them was lost. */
const MAX_AGE_MS = 60 * 60 * 1000
/** Domains that a run counts at most: 2,400 in an hour. */
const DOMAINS_PER_RUN = 200

/**
 * Counts the samples of domains whose counts in D1 are missing or an hour old. A task of the cron trigger of every five minutes:
 * it fills in the counts of a gateway of an earlier version, and corrects counts of which a write was lost. Counts of deleted domains
 * are deleted.
 */
export async function refreshCounts(deps: Pick<Deps, 'db' | 'reservoir' | 'nowMs'>): Promise<void> {
  await deleteLeftCounts(deps.db)
  await countNow(deps, await listUncounted(deps.db, deps.nowMs() - MAX_AGE_MS, DOMAINS_PER_RUN))
}
