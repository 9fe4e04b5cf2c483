import type { LimitedAccount } from '../../contracts/limits.ts'
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
  /** Usage before this time is only in receipts, not in `spent`. */
  unreadBeforeMs: number
}

/** Returns an account after resetting what was spent if a new month has begun. */
export function accountInMonth(account: Account, nowMs: number): Account {
  const month = monthOf(nowMs)
  if (account.month !== month) Object.assign(account, { month, spent: 0 })
  return account
}

/** Returns the id of an account. */
export function accountId({ kind, name }: Omit<LimitedAccount, 'limits'>): string {
  return `${kind}:${name}`
}
