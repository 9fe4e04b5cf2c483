import { and, desc, eq, isNull } from 'drizzle-orm'
import type { Database } from '../database.ts'
import { apiKeys } from '../schema.ts'

/** An API key as stored: its hash, never itself. */
export type KeyRow = typeof apiKeys.$inferSelect

/** The key with this SHA-256, unless it was revoked. */
export async function findActiveKey(db: Database, hash: string): Promise<KeyRow | undefined> {
  return db
    .select()
    .from(apiKeys)
    .where(and(eq(apiKeys.hash, hash), isNull(apiKeys.revokedAt)))
    .get()
}

/** Every key that was not revoked, newest first. */
export async function listKeys(db: Database): Promise<KeyRow[]> {
  return db
    .select()
    .from(apiKeys)
    .where(isNull(apiKeys.revokedAt))
    .orderBy(desc(apiKeys.createdAt), apiKeys.id)
}

/** Stores a new key. */
export async function insertKey(db: Database, key: Omit<KeyRow, 'revokedAt'>): Promise<void> {
  await db.insert(apiKeys).values(key)
}

/**
 * Revokes a key; requests with it are refused within 30 s, when the isolates' caches have run out.
 *
 * @returns false when there is no such key, or it was revoked before.
 */
export async function revokeKey(db: Database, id: string, nowMs: number): Promise<boolean> {
  const result = await db
    .update(apiKeys)
    .set({ revokedAt: nowMs })
    .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
  return result.meta.changes === 1
}
