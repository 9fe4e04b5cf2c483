import { expect, test } from 'vitest'
import type { AuditEntry, AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { joinNewest } from '../../../../gateway/dashboard/src/pages/audit/audit-entries.ts'

/** The rows `first` down to `last`. */
const rows = (first: number, last: number): AuditEntry[] =>
  Array.from({ length: first - last + 1 }, (_, index) => ({ id: first - index }) as AuditEntry)
const pageOf = (first: number, last: number, next: number | null) =>
  ({ data: rows(first, last), next_before: next }) as AuditPage
const ids = (entries: readonly AuditEntry[]) => entries.map(({ id }) => id)

test('without older entries the newest page is all', () => {
  expect(joinNewest(undefined, pageOf(9, 6, 6))).toEqual({ entries: rows(9, 6), next: 6 })
})

test('newer entries come before those that are shown, and the older ones go on where they were', () => {
  const { entries, next } = joinNewest({ entries: rows(9, 2), next: 2 }, pageOf(11, 8, 8))
  expect(ids(entries)).toEqual([11, 10, 9, 8, 7, 6, 5, 4, 3, 2])
  expect(next).toBe(2)
})

test('a newest page that does not reach the entries that are shown takes their place, so that none is left out unseen', () => {
  expect(joinNewest({ entries: rows(9, 2), next: 2 }, pageOf(20, 17, 17))).toEqual({
    entries: rows(20, 17),
    next: 17,
  })
})
