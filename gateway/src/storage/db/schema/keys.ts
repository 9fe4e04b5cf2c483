/** Tables of tenants and their API keys. Times are Unix milliseconds. */
import type { KeyScope } from '@copal/shared/wire/admin-keys.ts'
import { sql } from 'drizzle-orm'
import { index, integer, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'
import type { Limits } from '../../../contracts/limits.ts'

/** Tenants. The keys of a tenant share its limits and cannot see data of other tenants. */
export const tenants = sqliteTable('tenants', {
  name: text().primaryKey(),
  createdAt: integer().notNull(),
  /** Limits of all its keys together. */
  limits: text({ mode: 'json' }).$type<Limits>().notNull().default({}),
  /** The most that any of its keys may have sampled. */
  sampling: text({ enum: ['never', 'opt_in', 'always'] })
    .notNull()
    .default('always'),
})

/** API keys, never the keys themselves. A rotated key has two hashes until `previousUntil`. */
export const apiKeys = sqliteTable(
  'api_keys',
  {
    id: text().primaryKey(),
    name: text().notNull(),
    /** HMAC-SHA256 of the key's SHA-256 under the pepper, in hex; while not `peppered`, that SHA-256 itself. */
    hash: text().notNull(),
    prefix: text().notNull(),
    defaultDomain: text().notNull(),
    /** Whether texts of requests that name no domain are sorted into domains by their content. */
    discoverDomains: integer({ mode: 'boolean' }).notNull().default(false),
    sampling: text({ enum: ['never', 'opt_in', 'always'] }).notNull(),
    createdAt: integer().notNull(),
    revokedAt: integer(),
    /** False for keys that are older than the pepper, until the next cron run hashes them again. */
    peppered: integer({ mode: 'boolean' }).notNull().default(false),
    /** Hash of the key before the last rotation. */
    previousHash: text(),
    previousUntil: integer(),
    tenant: text().notNull().default('default'),
    scopes: text({ mode: 'json' }).$type<KeyScope[]>().notNull().default(['inference']),
    /** Null allows all. */
    allowedDomains: text({ mode: 'json' }).$type<string[]>(),
    allowedModels: text({ mode: 'json' }).$type<string[]>(),
    expiresAt: integer(),
    limits: text({ mode: 'json' }).$type<Limits>().notNull().default({}),
    /** Incremented when `sampling` changes; every stored sample names the version that it was taken under. */
    consentVersion: integer().notNull().default(1),
  },
  (table) => [
    uniqueIndex('api_keys_hash').on(table.hash),
    index('api_keys_previous_hash')
      .on(table.previousHash)
      .where(sql`${table.previousHash} is not null`),
    index('api_keys_tenant').on(table.tenant),
    index('api_keys_created').on(table.createdAt, table.id),
    // Tasks of every minute look for any such keys. A query finds them by literals alone, not by parameters.
    index('api_keys_unpeppered')
      .on(table.id)
      .where(sql`${table.peppered} = 0`),
    index('api_keys_discovering')
      .on(table.sampling)
      .where(sql`${table.discoverDomains} = 1 and ${table.revokedAt} is null`),
  ],
)
