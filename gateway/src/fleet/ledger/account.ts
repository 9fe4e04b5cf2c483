import type { Lease } from '../../contracts/lease.ts'
import type { UsageOwner } from '../../contracts/limits.ts'
import { monthOf } from '../../runtime/month.ts'
import type { SlidingMinute } from './sliding-minute.ts'

/** The usage of a limited key or tenant. */
export interface Account {
  minute: SlidingMinute
  month: number
  /** The tokens that were settled in this month. */
  spent: number
  /** The tokens of unsettled reservations, also of those from before the month: they settle in it. */
  reserved: number
  /** The number of running requests. */
  running: number
  /** Usage before this time is only in D1, not in `spent`; 0 once it is read. */
  unreadBeforeMs: number
  /**
   * The requests that ran at that time: they are charged when they are settled, also if their receipts are older. Not stored: it is
   * read soon, and a restart before that charges at most those twice whose receipts were being settled at that time.
   */
  unreadExcept: readonly string[]
}

/** Returns an account after resetting what was spent if a new month has begun. */
export function accountInMonth(account: Account, nowMs: number): Account {
  const month = monthOf(nowMs)
  if (account.month !== month) Object.assign(account, { month, spent: 0 })
  return account
}

/** Returns the id of an account. */
export function accountId({ kind, name }: UsageOwner): string {
  return `${kind}:${name}`
}

/** Returns the owner of the account with an id. */
export function ownerOf(id: string): UsageOwner {
  const [kind, ...name] = id.split(':')
  return { kind: kind === 'key' ? 'key' : 'tenant', name: name.join(':') }
}

/** Returns the ids of the accounts that are charged for a lease. */
export function accountIdsOf({ account, tenant }: Pick<Lease, 'account' | 'tenant'>): string[] {
  return [
    ...(account === undefined ? [] : [accountId({ kind: 'key', name: account })]),
    ...(tenant === undefined ? [] : [accountId({ kind: 'tenant', name: tenant })]),
  ]
}
