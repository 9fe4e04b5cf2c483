import type { Deps } from '../../contracts/bindings.ts'
import { deleteLeftCounts, listUncounted } from '../../storage/db/queries/reservoir-count-queries.ts'
import { countNow } from './domain-counts.ts'

/** Counts that are older than this are counted again, in case a write of them was lost. */
const MAX_AGE_MS = 60 * 60 * 1000
/** Domains that a run counts at most. */
const MAX_DOMAINS = 500
/** Domains that are counted, and whose counts are stored, at once. */
const DOMAINS_AT_ONCE = 32

/**
 * Counts the samples of domains whose counts in D1 are missing or an hour old. A task of the cron trigger of every five minutes:
 * it fills in the counts of a gateway of an earlier version, and corrects counts of which a write was lost. Counts of deleted domains
 * are deleted.
 */
export async function refreshCounts(deps: Pick<Deps, 'calls' | 'db' | 'reservoir' | 'nowMs'>): Promise<void> {
  await deleteLeftCounts(deps.db)
  const names = await listUncounted(deps.db, deps.nowMs() - MAX_AGE_MS, MAX_DOMAINS)
  // One call of each reservoir, and one that stores the counts. Other tasks leave calls to this one meanwhile.
  while (names.length > 0 && deps.calls.left > 1)
    await countNow(deps, names.splice(0, Math.min(DOMAINS_AT_ONCE, deps.calls.left - 1)))
}
