import type { LimitedAccount, UsageOwner } from './limits.ts'

/** The usage that one request asks to reserve. */
export interface ReservationRequest {
  /** The id of the request, the same for all its attempts. */
  requestId: string
  /** The id of this attempt; its receipt settles the reservation. */
  leaseId: string
  accounts: readonly LimitedAccount[]
  /** The estimated number of prompt tokens. */
  promptTokens: number
  /** The maximum tokens of each choice; null if the client sets no bound. */
  maxTokens: number | null
  /** The number of prompts, and of choices over all prompts; one of each if left out. */
  prompts?: number
  choices?: number
  /** The model's maximum of prompt and output tokens, if a node has reported it. */
  contextLength: number | undefined
}

/** The state of one limit per minute, for the client. */
export interface Rate {
  limit: number
  remaining: number
  resetMs: number
}
/** The tightest limits per minute over all accounts. */
export type Rates = Partial<Record<Unit, Rate>>

/** The limit that a request exceeds. A rejected request uses nothing. */
export interface LimitRejection {
  kind: LimitedAccount['kind']
  limit: 'requests' | 'tokens' | 'month' | 'concurrent'
  allowed: number
  remaining: number
  /** The usage that the request would have needed. */
  needed: number
  /** Null if a retry cannot succeed before the limit changes, the request gets smaller or a month begins. */
  retryAfterMs: number | null
  rates: Rates
}

/** The period whose usage an account has not been charged yet; D1 has it. */
export interface UnchargedUsage {
  fromMs: number
  beforeMs: number
  /** Requests that are charged by themselves, because they ran at the end of the period. */
  except?: readonly string[]
  /** How many receipts were given back by then; a read beside another such refund does not count. */
  refunds: number
}

/** The tokens that a stored receipt has charged to its key and tenant, and when it was stored. */
export interface ChargedReceipt {
  owners: UsageOwner[]
  tokens: number
  atMs: number
}

/** The units of limits per minute. */
export type Unit = 'requests' | 'tokens'
