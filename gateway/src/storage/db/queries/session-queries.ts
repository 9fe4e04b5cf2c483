import { and, desc, eq, gt, isNull, lt, lte, notInArray, or } from 'drizzle-orm'
import type { ActiveKey } from '../../../contracts/api-key.ts'
import type { Database } from '../../../contracts/database.ts'
import { dashboardLinks, dashboardSessions } from '../schema/dashboard.ts'
import { apiKeys, tenants } from '../schema/keys.ts'

/** A session as stored. */
export type SessionRow = typeof dashboardSessions.$inferSelect
/** A one-time link as stored. */
export type LinkRow = typeof dashboardLinks.$inferSelect

/** Maximum sessions of one key; the next one ends the one that was used longest ago. */
const MAX_SESSIONS_PER_KEY = 100

/** Stores a session. */
export async function insertSession(db: Database, session: SessionRow): Promise<void> {
  const { hash, keyId, seenAt } = dashboardSessions
  const isOfKey = session.keyId === null ? isNull(keyId) : eq(keyId, session.keyId)
  const kept = db
    .select({ hash })
    .from(dashboardSessions)
    .where(isOfKey)
    .orderBy(desc(seenAt), desc(dashboardSessions.createdAt), hash)
    .limit(MAX_SESSIONS_PER_KEY)
  await db.batch([
    db.insert(dashboardSessions).values(session),
    db.delete(dashboardSessions).where(and(isOfKey, notInArray(hash, kept))),
  ])
}

/** Returns a session with its key; `key` is null for the admin key, and for a key that was revoked. */
export async function findSessionRow(
  db: Database,
  hash: string,
): Promise<{ session: SessionRow; key: ActiveKey | null } | undefined> {
  const found = await db
    .select({
      session: dashboardSessions,
      key: apiKeys,
      tenantLimits: tenants.limits,
      tenantSampling: tenants.sampling,
    })
    .from(dashboardSessions)
    .leftJoin(apiKeys, and(eq(apiKeys.id, dashboardSessions.keyId), isNull(apiKeys.revokedAt)))
    .leftJoin(tenants, eq(tenants.name, apiKeys.tenant))
    .where(eq(dashboardSessions.hash, hash))
    .get()
  if (!found) return undefined
  const { session, key, tenantLimits, tenantSampling } = found
  return { session, key: key && { ...key, tenantLimits, tenantSampling } }
}

/** Records the use of a session. */
export async function touchSession(db: Database, hash: string, nowMs: number): Promise<void> {
  await db.update(dashboardSessions).set({ seenAt: nowMs }).where(eq(dashboardSessions.hash, hash))
}

/** Deletes a session. */
export async function deleteSession(db: Database, hash: string): Promise<void> {
  await db.delete(dashboardSessions).where(eq(dashboardSessions.hash, hash))
}

/** Stores a one-time link. */
export async function insertLink(db: Database, link: LinkRow): Promise<void> {
  await db.insert(dashboardLinks).values(link)
}

/** Deletes a link that has not expired and returns it, so that of several calls only one gets it. */
export async function takeLink(db: Database, hash: string, nowMs: number): Promise<LinkRow | undefined> {
  return db
    .delete(dashboardLinks)
    .where(and(eq(dashboardLinks.hash, hash), gt(dashboardLinks.expiresAt, nowMs)))
    .returning()
    .get()
}

/** Deletes sessions and links that have expired, and sessions that were last used before `idleSinceMs`. */
export async function deleteEndedSessions(db: Database, nowMs: number, idleSinceMs: number): Promise<void> {
  await db.batch([
    db
      .delete(dashboardSessions)
      .where(or(lte(dashboardSessions.expiresAt, nowMs), lt(dashboardSessions.seenAt, idleSinceMs))),
    db.delete(dashboardLinks).where(lte(dashboardLinks.expiresAt, nowMs)),
  ])
}
