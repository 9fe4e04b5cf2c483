import type { KeyScope, SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import type { Limits } from './limits.ts'

/** An API key as stored: its hash, never itself. A rotated key has two hashes until `previousUntil`. */
export interface KeyRow {
  id: string
  name: string
  hash: string
  prefix: string
  defaultDomain: string
  sampling: SamplingPolicy
  createdAt: number
  revokedAt: number | null
  peppered: boolean
  previousHash: string | null
  previousUntil: number | null
  tenant: string
  scopes: KeyScope[]
  /** Null: all. */
  allowedDomains: string[] | null
  allowedModels: string[] | null
  expiresAt: number | null
  limits: Limits
}

/** A key in use, with what it shares with the other keys of its tenant. */
export type ActiveKey = KeyRow & { tenantLimits: Limits | null }

/** Who asks something of the admin API: the operator with the admin key, or a tenant's own administrator. */
export type Actor = { kind: 'operator' } | { kind: 'tenant'; key: KeyRow }

/** How a {@link KeyWatch} looks at its key, and how often. */
export interface KeyWatchOptions {
  /** Whether the key still opens what it was sent for. */
  inForce: () => Promise<boolean>
  everyMs: number
}
