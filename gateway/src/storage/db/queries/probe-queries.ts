import { and, asc, eq, gte } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { probeScores } from '../schema/detectors.ts'

/** A node's score of the probe texts under one mask, as stored. */
export type ProbeRow = typeof probeScores.$inferSelect

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

/** What a node measured. */
export type NewProbeScore = Omit<ProbeRow, 'firstNll' | 'mismatches'>
