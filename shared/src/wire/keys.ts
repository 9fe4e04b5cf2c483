/** What operators and the `copal` command say to the gateway about keys and tenants. snake_case: it is an edge. */
import { z } from 'zod'
import { domainName } from './generation.ts'
import { modelId } from './node-rpc.ts'

/** `never` stores nothing, `opt_in` only requests with `x-copal-sample: true`, `always` all but `x-copal-sample: false`. */
export const samplingPolicy = z.enum(['never', 'opt_in', 'always'])
export type SamplingPolicy = z.output<typeof samplingPolicy>

/**
 * What a key opens: `inference` is `/v1`, `read-metrics` its tenant's figures at `/metrics`, `admin` its tenant's
 * keys under `/admin/keys`. What concerns the whole service is the admin key's alone.
 */
export const keyScope = z.enum(['inference', 'read-metrics', 'admin'])
export type KeyScope = z.output<typeof keyScope>

/** The tenant of keys that name none; always there. */
export const DEFAULT_TENANT = 'default'

/** Tenants are named like domains. */
export const tenantName = z
  .string()
  .max(64, "a tenant's name has at most 64 characters")
  .regex(
    /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/,
    "a tenant's name is lower-case letters, digits and inner '-', '_' or '.', like 'acme'",
  )

const listOf = <T extends z.ZodType<string>>(item: T, most: number) =>
  z
    .array(item)
    .min(1)
    .max(most)
    .transform((names) => [...new Set(names)].sort())

const limit = z.int().min(1).max(1_000_000_000_000).nullish()

/** Limits to set; null takes one away, what is left out stays as it is. */
export const limitChanges = z.strictObject({
  requests_per_minute: limit,
  /** Prompt and completion together. */
  tokens_per_minute: limit,
  /** Of a calendar month, UTC. */
  tokens_per_month: limit,
  /** Running at the same time. */
  concurrent_requests: limit,
})
export type LimitChanges = z.output<typeof limitChanges>

/** Limits as they are; null is none. */
export type LimitsEntry = { [name in keyof LimitChanges]-?: number | null }

/** `PATCH /admin/keys/:id` and `PUT /admin/tenants/:tenant` */
export const setLimits = z.strictObject({ limits: limitChanges.default({}) })

/**
 * `POST /admin/keys`. The key itself is in the answer and nowhere else. Strict, unlike other bodies: a field that is
 * misspelt would make a key that may do more than was meant.
 */
export const createKey = z
  .strictObject({
    name: z.string().min(1).max(128),
    /** Default: the tenant of the key that asks, or `default`. */
    tenant: tenantName.optional(),
    scopes: listOf(keyScope, 3).default(['inference']),
    default_domain: domainName.default('default'),
    /** Null: all, also those that come later. */
    allowed_domains: listOf(domainName, 64).nullish(),
    allowed_models: listOf(modelId, 64).nullish(),
    sampling: samplingPolicy.default('opt_in'),
    limits: limitChanges.default({}),
    expires_at: z.iso
      .datetime({ offset: true, error: 'a time like 2027-01-31T12:00:00Z is expected' })
      .nullish(),
  })
  .refine(({ default_domain, allowed_domains }) => allowed_domains?.includes(default_domain) ?? true, {
    path: ['default_domain'],
    error: "the default domain must be one of 'allowed_domains'",
  })
export type CreateKey = z.input<typeof createKey>
/** A parsed {@link CreateKey}. */
export type KeyRequest = z.output<typeof createKey>

/** Longest time that a rotated key may stay valid beside the new one. */
const MAX_GRACE_S = 30 * 24 * 3600

/** `POST /admin/keys/:id/rotate` */
export const rotateKey = z.strictObject({
  /** How long the old key stays valid. */
  grace_seconds: z
    .int()
    .min(0)
    .max(MAX_GRACE_S)
    .default(24 * 3600),
})

/** `GET /admin/keys?tenant=` */
export interface KeyEntry {
  id: string
  name: string
  tenant: string
  /** How the key begins, for people to tell keys apart. */
  prefix: string
  scopes: KeyScope[]
  default_domain: string
  allowed_domains: string[] | null
  allowed_models: string[] | null
  sampling: SamplingPolicy
  limits: LimitsEntry
  created_at: string
  expires_at: string | null
  /** Until when the key that was rotated away stays valid; null when there is none. */
  previous_valid_until: string | null
}

/** An answer that shows a key: of `POST /admin/keys` and `POST /admin/keys/:id/rotate`. */
export interface CreatedKey extends KeyEntry {
  key: string
}

/** `GET /admin/tenants` */
export interface TenantEntry {
  name: string
  /** Keys in force. */
  keys: number
  /** Of all its keys together. */
  limits: LimitsEntry
  created_at: string
}

/** `GET /admin/tenants/:tenant/cache` */
export interface CacheEntry {
  tenant: string
  /** Kept now, and their bytes with what storing them takes. */
  answers: number
  bytes: number
  /** Requests that looked for an answer, since the beginning. */
  hits: number
  misses: number
}
