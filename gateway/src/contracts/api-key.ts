import type { KeyScope, SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import type { Limits } from './limits.ts'

/** An API key as stored: its hash, never the key itself. A rotated key has two hashes until `previousUntil`. */
export interface KeyRow {
  id: string
  name: string
  hash: string
  prefix: string
  /** The domain of requests that name none, or of their unclear texts if `discoverDomains`. */
  defaultDomain: string
  discoverDomains: boolean
  sampling: SamplingPolicy
  createdAt: number
  revokedAt: number | null
  peppered: boolean
  previousHash: string | null
  previousUntil: number | null
  tenant: string
  scopes: KeyScope[]
  /** Null allows all. */
  allowedDomains: string[] | null
  allowedModels: string[] | null
  expiresAt: number | null
  limits: Limits
  /** Incremented when `sampling` changes. */
  consentVersion: number
}

/** A key in use, with the limits that it shares with the other keys of its tenant, and the most that these may have sampled. */
export type ActiveKey = KeyRow & { tenantLimits: Limits | null; tenantSampling: SamplingPolicy | null }

/**
 * The caller of the admin API: the operator with the admin key, an observer, who reads all and changes nothing, or a key of one
 * tenant, which administers it or only reads.
 */
export type Actor = { kind: 'operator' } | { kind: 'observer' | 'tenant'; key: ActiveKey }

/** A session of the dashboard. */
export interface DashboardSession {
  /** Identifies it; not its cookie. */
  hash: string
  actor: Actor
  /** The required value of the header `x-copal-csrf` of its requests. */
  csrf: string
  /** When it ends unless it is used before, milliseconds. */
  expiresAtMs: number
}

/** Settings of a {@link KeyWatch}. */
export interface KeyWatchOptions {
  /** Checks whether the key is still valid for the request. */
  inForce: () => Promise<boolean>
  everyMs: number
}
