import { and, eq, isNotNull, or, sql, type SQL } from 'drizzle-orm'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'
import type { Database } from '../../../contracts/database.ts'
import type { StoredTrial, StoredWatch, TrialNotes } from '../../../contracts/trial.ts'
import { decisions, models } from '../schema/masks.ts'
import { updates } from '../schema/updates.ts'
import { quarantineDatasets } from './batch-queries.ts'
import type { ModelRow } from './model-queries.ts'
import { isUnchanged, type UpdatePatch, type UpdateRow } from './update-queries.ts'

/** The trials of a model that updates run: a canary with its shadow, or a watch with its shadow. */
export interface UpdateTrials {
  canary?: StoredTrial | null
  shadow?: StoredTrial | null
  watch?: StoredWatch | null
}

/**
 * Begins or ends trials together, by compare-and-set.
 *
 * @param decision stored in the same transaction
 * @param update the update whose trials begin; it must not have changed either, or they would outlive it
 * @returns false if a row has another revision; then nothing is stored
 */
export async function setTrials(
  db: Database,
  model: Pick<ModelRow, 'id' | 'revision'>,
  trials: UpdateTrials,
  decision?: Omit<typeof decisions.$inferInsert, 'id' | 'model'>,
  update?: Pick<UpdateRow, 'id' | 'revision'>,
): Promise<boolean> {
  const { id, revision } = model
  const isRunning =
    update &&
    sql`exists (select 1 from ${updates} where ${updates.id} = ${update.id} and ${updates.revision} = ${update.revision})`
  const unchanged = and(eq(models.id, id), eq(models.revision, revision), isRunning)
  const change = db
    .update(models)
    .set({ ...trials, revision: revision + 1 })
    .where(unchanged)
  if (!decision) return (await change).meta.changes === 1
  const { updateId, maskVersion, kind, verdict, reason, figures = [], actor, createdAt } = decision
  const row = sql`select null, ${id}, ${updateId}, ${maskVersion}, ${kind}, ${verdict}, ${reason}, ${JSON.stringify(figures)}, ${actor}, ${createdAt}
    where exists (select 1 from ${models} where ${unchanged})`
  const [, { meta }] = await db.batch([db.insert(decisions).select(row), change])
  return meta.changes === 1
}

/** Returns the models whose active mask is watched, or was when it was active. */
export async function listWatchedModels(db: Database, onlyModel?: string): Promise<ModelRow[]> {
  const named = onlyModel === undefined ? undefined : eq(models.id, onlyModel)
  return db
    .select()
    .from(models)
    .where(and(isNotNull(models.watch), named))
}

/**
 * Creates the statements that end the canary of an update. The batches of a mask that is rolled back are quarantined: their texts did
 * harm, and never enter statistics again.
 */
export function endCanary(
  db: Database,
  update: Pick<UpdateRow, 'id' | 'model' | 'revision'>,
  patch: UpdatePatch,
) {
  const { id, model } = update
  const unchanged = isUnchanged(update)
  const ofUpdate = (trial: SQLiteColumn): SQL => sql`json_extract(${trial}, '$.updateId') = ${id}`
  const clear = (trial: SQLiteColumn): SQL => sql`case when ${ofUpdate(trial)} then null else ${trial} end`
  return [
    db
      .update(models)
      .set({
        canary: clear(models.canary),
        shadow: clear(models.shadow),
        revision: sql`${models.revision} + 1`,
      })
      .where(
        and(
          eq(models.id, model),
          or(ofUpdate(models.canary), ofUpdate(models.shadow)),
          sql`exists (select 1 from ${updates} where ${unchanged})`,
        ),
      ),
    ...(patch.state === 'rolled_back' ? [quarantineDatasets(db, unchanged, patch.finishedAt ?? 0)] : []),
  ]
}

/**
 * Takes the turn to judge the canary or the watch of an update, at most one caller in `everyMs`. Leaves the revision of the
 * model, because the desired state does not change.
 *
 * @returns false if it was judged since, or is over
 */
export async function claimCheck(
  db: Database,
  { model, kind, updateId }: CheckedTrial,
  nowMs: number,
  everyMs: number,
): Promise<boolean> {
  const column = models[kind]
  const result = await db
    .update(models)
    .set({ [kind]: sql`json_set(${column}, '$.checkedAtMs', ${nowMs})` })
    .where(
      and(
        isTrialOf(model, column, updateId),
        sql`abs(coalesce(json_extract(${column}, '$.checkedAtMs'), 0) - ${nowMs}) >= ${everyMs}`,
      ),
    )
  return result.meta.changes === 1
}

/** Stores what a check has noted, unless the trial is over. */
export async function noteCheck(
  db: Database,
  { model, kind, updateId }: CheckedTrial,
  notes: Omit<TrialNotes, 'checkedAtMs'>,
): Promise<void> {
  const column = models[kind]
  const { evidence, servedMs, servedSinceMs = null, unableSinceMs = null } = notes
  // A null removes the field, but those of the evidence stay.
  const patched = sql`json_patch(${column}, ${JSON.stringify({ servedMs, servedSinceMs, unableSinceMs })})`
  const noted = evidence
    ? sql`json_set(${patched}, '$.evidence', json(${JSON.stringify(evidence)}))`
    : patched
  await db
    .update(models)
    .set({ [kind]: noted })
    .where(isTrialOf(model, column, updateId))
}

/** The canary or the watch of an update. */
export interface CheckedTrial {
  model: string
  kind: 'canary' | 'watch'
  updateId: string
}

function isTrialOf(model: string, column: SQLiteColumn, updateId: string): SQL | undefined {
  return and(eq(models.id, model), sql`json_extract(${column}, '$.updateId') = ${updateId}`)
}
