import { and, eq, getTableColumns, gt, inArray, max, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { evaluations } from '../schema/masks.ts'

/** One cell of the R matrix: the loss of a mask on one version of a domain's holdout. */
export type EvaluationRow = typeof evaluations.$inferSelect

/** Stores losses of masks on holdouts; a new value of the same cell replaces the old one. */
export async function recordEvaluations(db: Database, rows: readonly EvaluationRow[]): Promise<void> {
  const [first, ...rest] = rows.map((row) =>
    db
      .insert(evaluations)
      .values(row)
      .onConflictDoUpdate({
        target: [evaluations.model, evaluations.version, evaluations.domain, evaluations.holdoutSha256],
        set: {
          tokens: sql`excluded.tokens`,
          nllMean: sql`excluded.nll_mean`,
          windowNll: sql`excluded.window_nll`,
          numerics: sql`excluded.numerics`,
          createdAt: sql`excluded.created_at`,
        },
      }),
  )
  if (first) await db.batch([first, ...rest])
}

/** Returns the evaluations of a model's masks, by default of all. */
export async function listEvaluations(
  db: Database,
  model: string,
  versions?: readonly number[],
): Promise<EvaluationRow[]> {
  const ofVersions = versions && inArray(evaluations.version, [...versions])
  return db
    .select()
    .from(evaluations)
    .where(and(eq(evaluations.model, model), ofVersions))
}

/** An evaluation without the losses of its windows, which are most of it. */
export type MeanLossRow = Omit<EvaluationRow, 'windowNll'>

/** Returns the mean losses of all masks of a model: a year of updates has tens of thousands. */
export async function listMeanLosses(db: Database, model: string): Promise<MeanLossRow[]> {
  const { windowNll: _, ...columns } = getTableColumns(evaluations)
  return db.select(columns).from(evaluations).where(eq(evaluations.model, model))
}

/** Returns when a mask of a model, not the dense one, was last evaluated on each domain. */
export async function lastEvaluated(db: Database, model: string): Promise<Map<string, number>> {
  const { domain, createdAt, version } = evaluations
  const rows = await db
    .select({ domain, atMs: max(createdAt) })
    .from(evaluations)
    .where(and(eq(evaluations.model, model), gt(version, 0)))
    .groupBy(domain)
  return new Map(rows.map((row) => [row.domain, row.atMs ?? 0]))
}
