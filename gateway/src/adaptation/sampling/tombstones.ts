import type { Deps } from '../../contracts/bindings.ts'
import type { SampleSource, SourceFilter } from '../../contracts/reservoir-object.ts'
import { insertTombstone, type TombstoneRow } from '../../storage/db/queries/tombstone-queries.ts'
import { matchesFilter } from './source-filter.ts'

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

/** Returns whether a sample was deleted after it was queued. */
export function isDeleted(
  tombstones: readonly TombstoneRow[],
  domain: string,
  source: Pick<SampleSource, 'keyId' | 'tenant' | 'requestId'>,
  queuedAtMs: number,
): boolean {
  return tombstones.some(
    (tombstone) =>
      queuedAtMs <= tombstone.createdAt &&
      (tombstone.domain === null || tombstone.domain === domain) &&
      matchesFilter(source, {
        keyId: tombstone.keyId ?? undefined,
        tenant: tombstone.tenant ?? undefined,
        requestId: tombstone.requestId ?? undefined,
      }),
  )
}
