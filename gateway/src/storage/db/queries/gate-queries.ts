import { and, desc, eq, getTableColumns, inArray, isNotNull, sql } from 'drizzle-orm'
import type { GenerationCheck } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Database } from '../../../contracts/database.ts'
import { decisions, evaluations, jobs, masks } from '../schema.ts'
import type { DecisionRow } from './decision-queries.ts'
import type { EvaluationRow } from './evaluation-queries.ts'

/** An evaluation, and whether its mask was ever active; the dense model counts as not. */
export type GateCell = EvaluationRow & { wasActive: boolean }

/** Returns the evaluations of a model's masks on some holdout versions. */
export async function listCellsOn(
  db: Database,
  model: string,
  holdouts: readonly string[],
): Promise<GateCell[]> {
  // All hashes in one parameter, because a statement has at most 100.
  const wanted = sql`(select value from json_each(${JSON.stringify(holdouts)}))`
  return db
    .select({
      ...getTableColumns(evaluations),
      wasActive: sql`${masks.promotedAt} is not null`.mapWith(Boolean),
    })
    .from(evaluations)
    .leftJoin(masks, and(eq(masks.model, evaluations.model), eq(masks.version, evaluations.version)))
    .where(and(eq(evaluations.model, model), inArray(evaluations.holdoutSha256, wanted)))
}

/** Returns what the dense model generated when it was last checked; undefined if it never was. */
export async function findDenseGeneration(db: Database, model: string): Promise<GenerationCheck | undefined> {
  const generation = sql`json_extract(${jobs.result}, '$.generation')`
  const row = await db
    .select({ result: jobs.result })
    .from(jobs)
    .where(
      and(
        eq(jobs.model, model),
        eq(jobs.kind, 'evaluate'),
        eq(jobs.state, 'done'),
        sql`json_extract(${jobs.payload}, '$.mask') is null`,
        isNotNull(generation),
      ),
    )
    .orderBy(desc(jobs.createdAt))
    .limit(1)
    .get()
  return row?.result?.kind === 'evaluate' ? row.result.generation : undefined
}

/** Returns the gate's last decision about a mask of an update. */
export async function findGateDecision(
  db: Database,
  updateId: string,
  maskVersion: number,
): Promise<DecisionRow | undefined> {
  return db
    .select()
    .from(decisions)
    .where(
      and(
        eq(decisions.updateId, updateId),
        eq(decisions.maskVersion, maskVersion),
        eq(decisions.kind, 'gate'),
      ),
    )
    .orderBy(desc(decisions.id))
    .limit(1)
    .get()
}
