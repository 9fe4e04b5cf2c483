import { and, count, desc, eq, isNull, or, sql, type SQL } from 'drizzle-orm'
import type { ActiveKey, KeyRow } from '../../../contracts/api-key.ts'
import type { SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import type { Database } from '../../../contracts/database.ts'
import type { LimitsPatch } from '../../../contracts/limits.ts'
import { apiKeys, tenants } from '../schema/keys.ts'
import { isAmong } from './is-among.ts'
import { patchedColumn } from './json-columns.ts'

/** The row of a new key. */
export type NewKeyRow = typeof apiKeys.$inferInsert

/**
 * Returns the key that has this hash now, or had it before its last rotation, unless it is revoked.
 *
 * @param hashes `hash` is peppered, `digest` is not
 */
export async function findKeyByHash(
  db: Database,
  { hash, digest }: { hash: string; digest: string },
): Promise<ActiveKey | undefined> {
  return findActive(
    db,
    or(
      and(eq(apiKeys.hash, hash), eq(apiKeys.peppered, true)),
      eq(apiKeys.previousHash, hash),
      and(eq(apiKeys.hash, digest), eq(apiKeys.peppered, false)),
    ),
  )
}

/** Returns one key unless it is revoked, or belongs to another tenant than `tenant`. */
export async function findKey(db: Database, id: string, tenant?: string): Promise<KeyRow | undefined> {
  return db
    .select()
    .from(apiKeys)
    .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt), ofTenant(tenant)))
    .get()
}

/** Returns one key with the limits of its tenant unless it is revoked. */
export async function findActiveKey(db: Database, id: string): Promise<ActiveKey | undefined> {
  return findActive(db, eq(apiKeys.id, id))
}

async function findActive(db: Database, isWanted: SQL | undefined): Promise<ActiveKey | undefined> {
  const found = await db
    .select({ key: apiKeys, tenantLimits: tenants.limits, tenantSampling: tenants.sampling })
    .from(apiKeys)
    .leftJoin(tenants, eq(tenants.name, apiKeys.tenant))
    .where(and(isWanted, isNull(apiKeys.revokedAt)))
    .get()
  return found && { ...found.key, tenantLimits: found.tenantLimits, tenantSampling: found.tenantSampling }
}

/** A place in the list of keys. */
export type KeyPlace = Pick<KeyRow, 'createdAt' | 'id'>

/** Returns keys that are not revoked, newest first: at most `limit` after a place, of one tenant or of all. */
export async function listKeys(
  db: Database,
  { tenant, after, limit }: { tenant?: string | undefined; after?: KeyPlace | undefined; limit: number },
): Promise<KeyRow[]> {
  const { createdAt, id } = apiKeys
  const isAfter = after && sql`(${createdAt}, ${id}) < (${after.createdAt}, ${after.id})`
  return db
    .select()
    .from(apiKeys)
    .where(and(isNull(apiKeys.revokedAt), ofTenant(tenant), isAfter))
    .orderBy(desc(createdAt), desc(id))
    .limit(limit)
}

/** Returns the ids of all keys of a tenant, also of revoked ones. */
export async function listKeyIds(db: Database, tenant: string): Promise<string[]> {
  const rows = await db.select({ id: apiKeys.id }).from(apiKeys).where(eq(apiKeys.tenant, tenant))
  return rows.map(({ id }) => id)
}

/** The consent of a key now, by its own policy and by that of its tenant. */
export interface KeyConsent {
  version: number
  policies: readonly SamplingPolicy[]
}

/** Returns what may be sampled of keys, by their ids, also of revoked ones. */
export async function findConsents(db: Database, ids: readonly string[]): Promise<Map<string, KeyConsent>> {
  const { id, consentVersion: version, sampling } = apiKeys
  const rows = await db
    .select({ id, version, sampling, ofTenants: tenants.sampling })
    .from(apiKeys)
    .leftJoin(tenants, eq(tenants.name, apiKeys.tenant))
    .where(isAmong(id, ids))
  return new Map(
    rows.map((row) => [
      row.id,
      { version: row.version, policies: [row.sampling, row.ofTenants ?? row.sampling] },
    ]),
  )
}

/** Returns the tenants of keys by their ids, also of revoked ones. */
export async function findTenantsOfKeys(db: Database, ids: readonly string[]): Promise<Map<string, string>> {
  const rows = await db
    .select({ id: apiKeys.id, tenant: apiKeys.tenant })
    .from(apiKeys)
    .where(isAmong(apiKeys.id, ids))
  return new Map(rows.map(({ id, tenant }) => [id, tenant]))
}

/** Stores a new key and returns its row. */
export async function insertKey(db: Database, key: NewKeyRow): Promise<KeyRow> {
  return db.insert(apiKeys).values(key).returning().get()
}

/** Stores a new key and returns its row; undefined if its tenant has `maxKeys` keys that are not revoked. */
export async function insertKeyWithin(
  db: Database,
  key: NewKeyRow & { id: string; tenant: string },
  maxKeys: number,
): Promise<KeyRow | undefined> {
  const [[row], [total]] = await db.batch([
    db.insert(apiKeys).values(key).returning(),
    db
      .select({ keys: count() })
      .from(apiKeys)
      .where(and(isNull(apiKeys.revokedAt), ofTenant(key.tenant))),
  ])
  if ((total?.keys ?? 0) <= maxKeys) return row
  await db.delete(apiKeys).where(eq(apiKeys.id, key.id))
  return undefined
}

/**
 * Gives a key a new secret. The current one stays valid until `previousUntil`; an earlier one ends now.
 *
 * @returns the row after the change; undefined if it was changed or revoked since `key` was read
 */
export async function rotateKey(
  db: Database,
  key: Pick<KeyRow, 'id' | 'hash'>,
  next: { hash: string; prefix: string; previousHash: string; previousUntil: number },
): Promise<KeyRow | undefined> {
  return db
    .update(apiKeys)
    .set({ ...next, peppered: true })
    .where(and(eq(apiKeys.id, key.id), eq(apiKeys.hash, key.hash), isNull(apiKeys.revokedAt)))
    .returning()
    .get()
}

/**
 * Changes limits and the sampling policy of a key; isolates apply them within 30 s. A new policy is a new consent version.
 * Nothing else is written, so that of changes at the same time none undoes another.
 *
 * @returns the row after the change; undefined if the key is revoked
 */
export async function changeKey(
  db: Database,
  id: string,
  { limits, sampling }: { limits: LimitsPatch; sampling: SamplingPolicy | undefined },
): Promise<KeyRow | undefined> {
  const consentVersion = sql`${apiKeys.consentVersion} + (${apiKeys.sampling} <> ${sampling})`
  return db
    .update(apiKeys)
    .set({
      limits: patchedColumn(apiKeys.limits, limits),
      ...(sampling === undefined ? {} : { sampling, consentVersion }),
    })
    .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
    .returning()
    .get()
}

/**
 * Revokes a key. Requests with it are rejected within 30 s, when the isolates' caches have expired.
 *
 * @returns false if there is no such key (of `tenant`, if that is given), or it is revoked already
 */
export async function revokeKey(db: Database, id: string, nowMs: number, tenant?: string): Promise<boolean> {
  const result = await db
    .update(apiKeys)
    .set({ revokedAt: nowMs })
    .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt), ofTenant(tenant)))
  return result.meta.changes === 1
}

/** Returns up to 100 keys that are older than the pepper; also revoked ones, because their digests could leak too. */
export async function listUnpepperedKeys(db: Database): Promise<Pick<KeyRow, 'id' | 'hash'>[]> {
  return db
    .select({ id: apiKeys.id, hash: apiKeys.hash })
    .from(apiKeys)
    .where(sql`${apiKeys.peppered} = 0`)
    .limit(100)
}

/** Replaces a plain digest by its peppered hash unless the key was rotated meanwhile. */
export async function pepperKey(
  db: Database,
  { id, hash, peppered }: { id: string; hash: string; peppered: string },
): Promise<void> {
  await db
    .update(apiKeys)
    .set({ hash: peppered, peppered: true })
    .where(and(eq(apiKeys.id, id), eq(apiKeys.hash, hash), eq(apiKeys.peppered, false)))
}

function ofTenant(tenant: string | undefined) {
  return tenant === undefined ? undefined : eq(apiKeys.tenant, tenant)
}
