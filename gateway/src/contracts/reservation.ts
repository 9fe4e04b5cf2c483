import type { LimitedAccount } from './limits.ts'

/** What one request would use. */
export interface ReservationRequest {
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
export interface LimitRejection {
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

/** Receipts that an account is still to be charged. */
export interface UnreadUsage {
  fromMs: number
  beforeMs: number
}

/** What is counted. */
export type Unit = 'requests' | 'tokens'
