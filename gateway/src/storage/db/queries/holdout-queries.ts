import { and, asc, desc, eq, getTableColumns, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { datasets, domains, GENERAL_HOLDOUT, holdouts } from '../schema/domains.ts'
import { evaluations } from '../schema/masks.ts'
import { isAmong } from './is-among.ts'

/** One version of a domain's holdout. */
export type HoldoutRow = typeof holdouts.$inferSelect

/** One version of a domain's holdout, with the size of its dataset where that is known. */
export type SizedHoldout = HoldoutRow & { bytes?: number | null }

const isLatest = sql`${holdouts.version} = (select max(version) from ${holdouts} newer where newer.domain = ${holdouts.domain})`

/** Returns every version of every domain's holdout, sorted by domain and version. */
export async function listHoldouts(db: Database): Promise<HoldoutRow[]> {
  return db.select().from(holdouts).orderBy(asc(holdouts.domain), asc(holdouts.version))
}

/** Returns the latest version of each domain's holdout with the size of its dataset, sorted by domain. */
export async function listLatestHoldouts(db: Database): Promise<SizedHoldout[]> {
  return db
    .select({ ...getTableColumns(holdouts), bytes: datasets.bytes })
    .from(holdouts)
    .leftJoin(datasets, eq(datasets.sha256, holdouts.sha256))
    .where(isLatest)
    .orderBy(asc(holdouts.domain))
}

/** Returns the latest version of one domain's holdout. */
export async function findLatestHoldout(db: Database, domain: string): Promise<HoldoutRow | undefined> {
  return db
    .select()
    .from(holdouts)
    .where(eq(holdouts.domain, domain))
    .orderBy(desc(holdouts.version))
    .limit(1)
    .get()
}

/** Returns the first version of the holdout of each of some domains that have one. */
export async function listFirstHoldouts(db: Database, names: readonly string[]): Promise<HoldoutRow[]> {
  return db
    .select()
    .from(holdouts)
    .where(and(isAmong(holdouts.domain, names), eq(holdouts.version, 1)))
}

/** Returns whether a dataset is a version of a holdout. */
export async function isHoldout(db: Database, sha256: string): Promise<boolean> {
  const row = await db
    .select({ version: holdouts.version })
    .from(holdouts)
    .where(eq(holdouts.sha256, sha256))
    .limit(1)
    .get()
  return row !== undefined
}

/**
 * Stores a version of a registered domain's holdout, or of the general one, unless another call has stored this version.
 *
 * @returns the latest version afterwards
 */
export async function insertHoldout(db: Database, holdout: HoldoutRow): Promise<HoldoutRow | undefined> {
  const { domain, version, sha256, samples, characters, createdAt } = holdout
  const registered = sql`${domain} = ${GENERAL_HOLDOUT} or exists (select 1 from ${domains} where ${domains.name} = ${domain})`
  const [, rows] = await db.batch([
    db
      .insert(holdouts)
      .select(
        sql`select ${domain}, ${version}, ${sha256}, ${samples}, ${characters}, ${createdAt} where ${registered}`,
      )
      .onConflictDoNothing(),
    db.select().from(holdouts).where(eq(holdouts.domain, domain)).orderBy(desc(holdouts.version)).limit(1),
  ])
  return rows[0]
}

/** Deletes every version of a domain's holdout with the evaluations on them. */
export async function forgetHoldouts(db: Database, domain: string): Promise<void> {
  await db.batch([
    db.delete(evaluations).where(eq(evaluations.domain, domain)),
    db.delete(holdouts).where(eq(holdouts.domain, domain)),
  ])
}
