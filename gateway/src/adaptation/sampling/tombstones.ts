import type { Deps } from '../../contracts/bindings.ts'
import type { SampleSource, SourceFilter } from '../../contracts/reservoir-object.ts'
import {
  insertTombstone,
  listTombstones,
  type TombstoneRow,
} from '../../storage/db/queries/tombstone-queries.ts'
import { matchesFilter } from './source-filter.ts'

/** A request can be deleted before its samples are queued, because its id is sent with the start of the response: the longest time between the two. */
export const MAX_QUEUE_DELAY_MS = 60_000

/**
 * Records a deletion before it begins: samples that were queued until now and match it are not stored afterwards, whenever
 * they arrive.
 */
export async function writeTombstone(
  { db, nowMs }: Pick<Deps, 'db' | 'nowMs'>,
  domain: string,
  { keyId, tenant, requestId }: SourceFilter = {},
): Promise<void> {
  await insertTombstone(db, { domain, keyId, tenant, requestId, createdAt: nowMs() })
}

/** Returns the deletions that may concern samples which were queued at a time or later. */
export function findTombstones({ db }: Pick<Deps, 'db'>, queuedAtMs: number): Promise<TombstoneRow[]> {
  return listTombstones(db, queuedAtMs - MAX_QUEUE_DELAY_MS)
}

/** Returns whether a sample was deleted after it was queued, or is of a request that was deleted. */
export function isDeleted(
  tombstones: readonly TombstoneRow[],
  domain: string,
  source: Pick<SampleSource, 'keyId' | 'tenant' | 'requestId'>,
  queuedAtMs: number,
): boolean {
  return tombstones.some(
    (tombstone) =>
      (tombstone.requestId !== null || queuedAtMs <= tombstone.createdAt) &&
      (tombstone.domain === null || tombstone.domain === domain) &&
      matchesFilter(source, {
        keyId: tombstone.keyId ?? undefined,
        tenant: tombstone.tenant ?? undefined,
        requestId: tombstone.requestId ?? undefined,
      }),
  )
}
