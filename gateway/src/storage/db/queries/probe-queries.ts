import { and, asc, eq, gte, lt, lte } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { probeScores } from '../schema/detectors.ts'

/** A node's score of the probe texts under one mask, as stored. */
export type ProbeRow = typeof probeScores.$inferSelect

/** Scores that are older say nothing about the present weights. */
export const MAX_PROBE_AGE_MS = 60 * 60 * 1000

/** Returns the scores of a model, or of all, that were measured since a time; under one mask or all. */
export async function listProbeScores(
  db: Database,
  model: string | undefined,
  sinceMs: number,
  maskVersion?: number,
): Promise<ProbeRow[]> {
  return db
    .select()
    .from(probeScores)
    .where(
      and(
        model === undefined ? undefined : eq(probeScores.model, model),
        maskVersion === undefined ? undefined : eq(probeScores.maskVersion, maskVersion),
        gte(probeScores.measuredAt, sinceMs),
      ),
    )
    .orderBy(asc(probeScores.model), asc(probeScores.maskVersion), asc(probeScores.nodeId))
}

/** Stores scores, unless a newer one of the same node and mask is stored. */
export async function storeProbeScores(db: Database, rows: readonly ProbeRow[]): Promise<void> {
  const [first, ...rest] = rows.map((row) =>
    db
      .insert(probeScores)
      .values(row)
      .onConflictDoUpdate({
        target: [probeScores.model, probeScores.maskVersion, probeScores.nodeId],
        set: row,
        setWhere: lte(probeScores.measuredAt, row.measuredAt),
      }),
  )
  if (first) await db.batch([first, ...rest])
}

/** Deletes scores that were measured before a time. */
export async function deleteProbeScores(db: Database, beforeMs: number): Promise<void> {
  await db.delete(probeScores).where(lt(probeScores.measuredAt, beforeMs))
}
