/** The entries that the page of the audit log shows. */
import type { AuditEntry, AuditPage } from '@copal/shared/wire/admin-audit.ts'

/** Entries without a gap, newest first. */
export interface ShownEntries {
  entries: readonly AuditEntry[]
  /** Where older entries go on; null: there are none. */
  next: number | null
}

/**
 * Joins the newest page with the entries that were loaded before. A page that does not reach them takes their place: what lies
 * between is not known, and nobody would see that it is missing.
 */
export function joinNewest(
  before: ShownEntries | undefined,
  { data, next_before: next = null }: Pick<AuditPage, 'data' | 'next_before'>,
): ShownEntries {
  const [newest] = before?.entries ?? []
  const oldest = data.at(-1)
  if (!before || !newest || !oldest || oldest.id > newest.id) return { entries: data, next }
  const older = before.entries.filter(({ id }) => id < oldest.id)
  return { entries: [...data, ...older], next: before.next }
}
