import type { LimitedAccount } from '../../contracts/limits.ts'
import { monthOf } from '../../runtime/month.ts'
import type { SlidingMinute } from './sliding-minute.ts'

/** What a key or a tenant with limits has used. */
export interface Account {
  minute: SlidingMinute
  month: number
  spent: number
  /** Tokens of reservations of this month that are not settled. */
  held: number
  /** Requests that are running. */
  open: number
  /** What was used before is only in its receipts, and not in `spent`. */
  unreadBeforeMs: number
}

/** An account in the month of now: a new month begins with nothing spent. */
export function accountInMonth(account: Account, nowMs: number): Account {
  const month = monthOf(nowMs)
  if (account.month !== month) Object.assign(account, { month, spent: 0, held: 0 })
  return account
}

/** What an account is called. */
export function accountId({ kind, name }: Omit<LimitedAccount, 'limits'>): string {
  return `${kind}:${name}`
}
