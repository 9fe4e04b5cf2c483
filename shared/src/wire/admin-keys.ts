/** Requests and responses of the admin API about keys, tenants and the response cache. Public, so snake_case. */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { domainName } from './inference-fields.ts'
import { count, modelId, time } from './identifiers.ts'
import { pageAfter, pageLimit } from './paging.ts'

/**
 * Which requests of a key may be sampled: `never` none, `opt_in` those with `x-copal-sample: true`, `always` all but those
 * with `x-copal-sample: false`.
 */
export const samplingPolicy = z.enum(['never', 'opt_in', 'always'])
/** Which requests of a key may be sampled. */
export type SamplingPolicy = z.output<typeof samplingPolicy>

/**
 * A permission of a key: `inference` is `/v1`, `read-metrics` the figures of its tenant at `/metrics` and in the dashboard,
 * `admin` also changes of its tenant's keys under `/admin/keys`, `read-admin` every `GET` of `/admin` and `/metrics` for all
 * tenants, and no change. Only the admin key of the service can do everything else, and create keys with `read-admin`.
 */
export const keyScope = z.enum(['inference', 'read-metrics', 'admin', 'read-admin'])
/** A permission of a key. */
export type KeyScope = z.output<typeof keyScope>

/** The tenant of keys created without one; it always exists. */
export const DEFAULT_TENANT = 'default'

/** The domain of requests that name none, of keys created without one. */
export const DEFAULT_DOMAIN = 'default'

/** Tenant names: lower-case letters, digits and inner `-`, `_`, `.`, like domain names. */
export const tenantName = z
  .string()
  .max(64, 'expected a tenant name of at most 64 characters')
  .regex(
    /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/,
    "expected a tenant name of lower-case letters, digits and inner '-', '_' or '.', like 'acme'",
  )

/** Creates the schema of a sorted list without duplicates. */
const uniqueList = <T extends z.ZodType<string>>(item: T, max: number) =>
  boundedArray(item)
    .min(1)
    .max(max)
    .transform((names) => [...new Set(names)].sort())

const limit = z.int().min(1).max(1_000_000_000_000).nullish()

/** Limits to set; null removes a limit, and a field that is left out stays as it is. */
export const limitChanges = z.strictObject({
  requests_per_minute: limit,
  /** Prompt and completion tokens together. */
  tokens_per_minute: limit,
  /** Tokens of a calendar month, UTC. */
  tokens_per_month: limit,
  /** Requests running at the same time. */
  concurrent_requests: limit,
})
/** Limits to set. */
export type LimitChanges = z.output<typeof limitChanges>

const currentLimit = z.int().nullable()

/** Current limits; null is no limit. */
const limitsEntry = z.object({
  requests_per_minute: currentLimit,
  tokens_per_minute: currentLimit,
  tokens_per_month: currentLimit,
  concurrent_requests: currentLimit,
})
/** Current limits. */
export type LimitsEntry = z.output<typeof limitsEntry>

/** Body of `PATCH /admin/keys/:id` and `PUT /admin/tenants/:tenant`; what is left out stays as it is. */
export const accountChanges = z.strictObject({
  limits: limitChanges.default({}),
  sampling: samplingPolicy
    .optional()
    .describe('Of a tenant: the most that a key of it may have sampled. Texts that are stored already stay.'),
})

/**
 * Body of `POST /admin/keys`. Only the response contains the key itself. Strict, unlike other bodies: a misspelt field would
 * create a key with more permissions than intended.
 */
export const createKey = z
  .strictObject({
    name: z.string().min(1).max(128),
    /** By default the tenant of the calling key, or `default`. */
    tenant: tenantName.optional(),
    scopes: uniqueList(keyScope, 4).default(['inference']),
    default_domain: domainName
      .optional()
      .describe('The domain of requests that name none, or of their unclear texts. Left out: `default`.'),
    discover_domains: z
      .boolean()
      .optional()
      .describe(
        'Whether texts of requests that name no domain are sorted into domains by their content. Left out: true if no `default_domain` is given.',
      ),
    /** Null allows all, including later ones. */
    allowed_domains: uniqueList(domainName, 64).nullish(),
    allowed_models: uniqueList(modelId, 64).nullish(),
    sampling: samplingPolicy.default('opt_in'),
    limits: limitChanges.default({}),
    expires_at: z.iso
      .datetime({ offset: true, error: 'expected a time like 2027-01-31T12:00:00Z' })
      .nullish(),
  })
  .refine(
    ({ default_domain = DEFAULT_DOMAIN, allowed_domains }) =>
      allowed_domains?.includes(default_domain) ?? true,
    {
      path: ['default_domain'],
      error: "expected one of 'allowed_domains'",
    },
  )
  .refine(({ scopes }) => !(scopes.includes('admin') && scopes.includes('read-admin')), {
    path: ['scopes'],
    error: "expected 'admin' or 'read-admin', not both: a key with 'read-admin' changes nothing",
  })
/** A body of `POST /admin/keys`, as sent. */
export type CreateKey = z.input<typeof createKey>

/** Maximum time that a rotated key stays valid beside the new one, seconds. */
const MAX_GRACE_S = 30 * 24 * 3600

/** Body of `POST /admin/keys/:id/rotate`. */
export const rotateKey = z.strictObject({
  /** How long the old key stays valid, seconds. */
  grace_seconds: z
    .int()
    .min(0)
    .max(MAX_GRACE_S)
    .default(24 * 3600),
})

/** One entry of `GET /admin/keys?tenant=`. */
export const keyEntry = z.object({
  id: z.string(),
  name: z.string(),
  tenant: z.string(),
  prefix: z.string().describe('The first characters of the key, so that people can tell keys apart.'),
  scopes: z.array(keyScope),
  default_domain: z.string(),
  discover_domains: z
    .boolean()
    .describe('Whether texts of requests that name no domain are sorted into domains by their content.'),
  allowed_domains: z.array(z.string()).nullable(),
  allowed_models: z.array(z.string()).nullable(),
  sampling: samplingPolicy,
  limits: limitsEntry,
  created_at: time,
  expires_at: time.nullable(),
  previous_valid_until: time
    .nullable()
    .describe('When the key before the last rotation stops being valid; null when there is none.'),
})
/** One entry of `GET /admin/keys`. */
export type KeyEntry = z.output<typeof keyEntry>

/** Query of `GET /admin/keys`: of the newest keys first. */
export const keysQuery = z.object({
  tenant: z.string().optional().describe('List only the keys of this tenant.'),
  limit: pageLimit,
  after: pageAfter,
})
/** Query of `GET /admin/tenants`: of the tenants in the order of their names. */
export const tenantsQuery = z.object({ limit: pageLimit, after: pageAfter })

/** Response of `POST /admin/keys` and `POST /admin/keys/:id/rotate`: the only ones that contain the key. */
export const createdKey = keyEntry.extend({ key: z.string().describe('Returned only here; store it now.') })
/** A response that contains a new key. */
export type CreatedKey = z.output<typeof createdKey>

/** Response of `DELETE /admin/keys/:id`. */
export const revokedKey = z.object({ id: z.string(), revoked: z.literal(true) })

/** One entry of `GET /admin/tenants`. */
export const tenantEntry = z.object({
  name: z.string(),
  keys: count.describe('Valid keys.'),
  limits: limitsEntry.describe('Limits of all its keys together.'),
  sampling: samplingPolicy.describe('The most that a key of the tenant may have sampled.'),
  created_at: time,
})
/** One entry of `GET /admin/tenants`. */
export type TenantEntry = z.output<typeof tenantEntry>

/** Response of `GET /admin/tenants/:tenant/cache`. */
export const cacheEntry = z.object({
  tenant: z.string(),
  answers: count.describe('Cached responses now.'),
  bytes: count.describe('Bytes of these, including storage overhead.'),
  hits: count.describe('Lookups ever that found a response.'),
  misses: count.describe('Lookups ever that found none.'),
})
/** A response of `GET /admin/tenants/:tenant/cache`. */
export type CacheEntry = z.output<typeof cacheEntry>

/** Response of `DELETE /admin/tenants/:tenant/cache`. */
export const clearedCache = z.object({ tenant: z.string(), deleted: count })
/** A response of `DELETE /admin/tenants/:tenant/cache`. */
export type ClearedCache = z.output<typeof clearedCache>
