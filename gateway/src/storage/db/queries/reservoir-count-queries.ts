import { eq, isNull, lt, notInArray, or, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import type { ReservoirCounts } from '../../../contracts/reservoir-counts.ts'
import { domains, reservoirCounts } from '../schema/domains.ts'
import { jsonColumns } from './json-columns.ts'

/** The counts of a domain's reservoir. */
export type ReservoirCountsRow = typeof reservoirCounts.$inferSelect

/** The columns that a count changes, in the order of the table. */
const COUNTED = {
  samples: sql`excluded.samples`,
  characters: sql`excluded.characters`,
  seen: sql`excluded.seen`,
  holdoutSamples: sql`excluded.holdout_samples`,
  holdoutCharacters: sql`excluded.holdout_characters`,
  reviewSamples: sql`excluded.review_samples`,
  lastSampleAtMs: sql`excluded.last_sample_at_ms`,
  models: sql`excluded.models`,
  examples: sql`excluded.examples`,
  countedAtMs: sql`excluded.counted_at_ms`,
}

/**
 * Stores the counts of reservoirs by one statement. Those of a domain that is not registered are left out, so that a deleted
 * domain leaves none, and so are those that are older than the stored ones.
 */
export async function putReservoirCounts(
  db: Database,
  counts: ReadonlyMap<string, ReservoirCounts>,
): Promise<void> {
  if (counts.size === 0) return
  const rows = [...counts].map(([domain, each]) => ({ domain, ...each }))
  await db
    .insert(reservoirCounts)
    .select(
      sql`select ${jsonColumns('domain', ...Object.keys(COUNTED))} from json_each(${JSON.stringify(rows)})
        join ${domains} on ${domains.name} = json_extract(value, '$.domain') where true`,
    )
    .onConflictDoUpdate({
      target: reservoirCounts.domain,
      set: COUNTED,
      setWhere: sql`excluded.counted_at_ms >= ${reservoirCounts.countedAtMs}`,
    })
}

/** Returns the stored counts of all domains. */
export async function listReservoirCounts(db: Database): Promise<Map<string, ReservoirCountsRow>> {
  const rows = await db.select().from(reservoirCounts)
  return new Map(rows.map((row) => [row.domain, row]))
}

/** Deletes the counts of domains that are not registered, which a version without counts may have deleted. */
export async function deleteLeftCounts(db: Database): Promise<void> {
  await db
    .delete(reservoirCounts)
    .where(notInArray(reservoirCounts.domain, db.select({ name: domains.name }).from(domains)))
}

/**
 * Returns domains whose counts are older than a time or missing, in random order, so that reservoirs that do not answer do not
 * hold up others.
 */
export async function listUncounted(db: Database, beforeMs: number, limit: number): Promise<string[]> {
  const rows = await db
    .select({ name: domains.name })
    .from(domains)
    .leftJoin(reservoirCounts, eq(reservoirCounts.domain, domains.name))
    .where(or(isNull(reservoirCounts.domain), lt(reservoirCounts.countedAtMs, beforeMs)))
    .orderBy(sql`random()`)
    .limit(limit)
  return rows.map(({ name }) => name)
}
