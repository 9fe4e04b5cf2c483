import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'

/** Returns an entry whose texts were counted; undefined before that, when its counts are 0 and say nothing. */
export function countedEntry(entry: DomainEntry | undefined): DomainEntry | undefined {
  return entry?.counted_at === null ? undefined : entry
}
