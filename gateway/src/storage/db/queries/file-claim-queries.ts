import { and, lt, or, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { fileClaims } from '../schema/sweeps.ts'
import { isAmong } from './is-among.ts'

/**
 * Claims a file that is about to be stored, or to be needed. Returns false if a sweep is deleting it, unless that was broken off: it
 * began before `brokenOffMs`.
 */
export async function claimStoredFile(
  db: Database,
  key: string,
  { brokenOffMs, nowMs }: { brokenOffMs: number; nowMs: number },
): Promise<boolean> {
  const claim = { claimedAt: nowMs, isDeleting: false }
  const { meta } = await db
    .insert(fileClaims)
    .values({ key, ...claim })
    .onConflictDoUpdate({
      target: fileClaims.key,
      set: claim,
      setWhere: sql`not ${fileClaims.isDeleting} or ${fileClaims.claimedAt} < ${brokenOffMs}`,
    })
  return meta.changes > 0
}

/** Claims some files that are about to be deleted. Returns those that nobody has claimed since `beforeMs`. */
export async function claimUnusedFiles(
  db: Database,
  keys: readonly string[],
  { beforeMs, nowMs }: { beforeMs: number; nowMs: number },
): Promise<string[]> {
  const rows = await db.all<{ key: string }>(sql`
    insert into ${fileClaims} (key, claimed_at, is_deleting)
      select value, ${nowMs}, 1 from json_each(${JSON.stringify(keys)}) where true
    on conflict (key) do update set claimed_at = excluded.claimed_at, is_deleting = 1
      where claimed_at < ${beforeMs}
    returning key`)
  return rows.map(({ key }) => key)
}

/** Ends the claims of files that are deleted. */
export async function endDeletions(db: Database, keys: readonly string[]): Promise<void> {
  await db.delete(fileClaims).where(and(isAmong(fileClaims.key, keys), fileClaims.isDeleting))
}

/** Forgets claims of files that were stored before a time, and of deletions that were broken off before another. */
export async function forgetOldClaims(
  db: Database,
  { storedMs, deletedMs }: { storedMs: number; deletedMs: number },
): Promise<void> {
  const { claimedAt, isDeleting } = fileClaims
  await db.delete(fileClaims).where(or(lt(claimedAt, storedMs), and(isDeleting, lt(claimedAt, deletedMs))))
}
