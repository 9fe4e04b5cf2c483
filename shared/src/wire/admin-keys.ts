/** What operators and the `copal` command say to the gateway about keys and tenants. snake_case: it is an edge. */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { domainName } from './inference-fields.ts'
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

const uniqueList = <T extends z.ZodType<string>>(item: T, most: number) =>
  boundedArray(item)
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

const currentLimit = z.int().nullable()

/** Limits as they are; null is none. */
const limitsEntry = z.object({
  requests_per_minute: currentLimit,
  tokens_per_minute: currentLimit,
  tokens_per_month: currentLimit,
  concurrent_requests: currentLimit,
})
export type LimitsEntry = z.output<typeof limitsEntry>

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
    scopes: uniqueList(keyScope, 3).default(['inference']),
    default_domain: domainName.default('default'),
    /** Null: all, also those that come later. */
    allowed_domains: uniqueList(domainName, 64).nullish(),
    allowed_models: uniqueList(modelId, 64).nullish(),
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

const count = z.int().min(0)
/** ISO 8601, UTC. */
const time = z.iso.datetime()

/** `GET /admin/keys?tenant=` */
export const keyEntry = z.object({
  id: z.string(),
  name: z.string(),
  tenant: z.string(),
  prefix: z.string().describe('How the key begins, for people to tell keys apart.'),
  scopes: z.array(keyScope),
  default_domain: z.string(),
  allowed_domains: z.array(z.string()).nullable(),
  allowed_models: z.array(z.string()).nullable(),
  sampling: samplingPolicy,
  limits: limitsEntry,
  created_at: time,
  expires_at: time.nullable(),
  previous_valid_until: time
    .nullable()
    .describe('Until when the key that was rotated away stays valid; null when there is none.'),
})
export type KeyEntry = z.output<typeof keyEntry>

/** An answer that shows a key: of `POST /admin/keys` and `POST /admin/keys/:id/rotate`. */
export const createdKey = keyEntry.extend({ key: z.string().describe('Shown here and nowhere else.') })
export type CreatedKey = z.output<typeof createdKey>

/** Answer of `DELETE /admin/keys/:id`. */
export const revokedKey = z.object({ id: z.string(), revoked: z.literal(true) })

/** `GET /admin/tenants` */
export const tenantEntry = z.object({
  name: z.string(),
  keys: count.describe('Keys in force.'),
  limits: limitsEntry.describe('Of all its keys together.'),
  created_at: time,
})
export type TenantEntry = z.output<typeof tenantEntry>

/** `GET /admin/tenants/:tenant/cache` */
export const cacheEntry = z.object({
  tenant: z.string(),
  answers: count.describe('Kept now.'),
  bytes: count.describe('Of these, with what storing them takes.'),
  hits: count.describe('Requests that looked for an answer and found it, since the beginning.'),
  misses: count,
})
export type CacheEntry = z.output<typeof cacheEntry>

/** Answer of `DELETE /admin/tenants/:tenant/cache`. */
export const clearedCache = z.object({ tenant: z.string(), deleted: count })
