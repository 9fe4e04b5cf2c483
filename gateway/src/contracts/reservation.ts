import type { LimitedAccount } from './limits.ts'
import type { Slot, Unit } from '../fleet/ledger/sliding-minute.ts'

/** What one request would use. */
export interface Wanted {
  /** The same over all its attempts. */
  requestId: string
  /** Of this attempt; its receipt settles. */
  leaseId: string
  accounts: readonly LimitedAccount[]
  /** Estimate. */
  promptTokens: number
  /** Most tokens of each choice that the client asks for; null when it names no bound. */
  maxTokens: number | null
  /** Prompts and choices over all of them; one of each when left out. */
  prompts?: number
  choices?: number
  /** Of prompt and answer together, when a node told it. */
  contextLength: number | undefined
}

/** One limit a minute, for the client. */
export interface Rate {
  limit: number
  remaining: number
  resetMs: number
}
/** The tightest limits a minute over all accounts. */
export type Rates = Partial<Record<Unit, Rate>>

/** Why a request is refused: it consumed nothing. */
export interface Refusal {
  kind: LimitedAccount['kind']
  limit: 'requests' | 'tokens' | 'month' | 'concurrent'
  most: number
  remaining: number
  /** What the request would have used. */
  wanted: number
  /** Null: not before the limit is changed, the request is smaller, or a month begins. */
  retryAfterMs: number | null
  rates: Rates
}

/** A request that may run. `maxTokens`: most tokens that each choice may have, when its client named no bound and tokens are limited. */
export type Reserved = { ok: true; maxTokens: number | null; rates: Rates } | { ok: false; refusal: Refusal }

/** A reservation, as it is kept. */
export interface Hold {
  requestId: string
  leaseId: string
  accounts: string[]
  tokens: number
  maxTokens: number | null
  /** The slot of the minute that it was counted in. */
  second: number
  month: number
  touchedAtMs: number
}

/** An account, as it is kept. */
export interface AccountRecord {
  slots: Slot[]
  month: number
  /** Settled tokens of the month. */
  spent: number
  /** What was used before is only in its receipts; left out in records from before this was kept. */
  unreadBeforeMs?: number
}

/** Receipts that an account is still to be charged. */
export interface Unread {
  fromMs: number
  beforeMs: number
}

/** What changed since it was asked last: records to store, and ids to delete. */
export interface LedgerChanges {
  accounts: Map<string, AccountRecord | undefined>
  holds: Map<string, Hold | undefined>
}
