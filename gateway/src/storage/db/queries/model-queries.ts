import { and, eq, inArray, sql } from 'drizzle-orm'
import { alias } from 'drizzle-orm/sqlite-core'
import type { HeartbeatResponse } from '@copal/shared/wire/node-rpc.ts'
import { trialsInForce } from '../trials-in-force.ts'
import type { StoredTrial, TrialKind } from '../../../contracts/trial.ts'
import type { Database } from '../../../contracts/database.ts'
import { masks, models } from '../schema.ts'

/** A model that a node ever registered, with its desired state. */
export type ModelRow = typeof models.$inferSelect

/** Every model, sorted by id. */
export async function listModels(db: Database): Promise<ModelRow[]> {
  return db.select().from(models).orderBy(models.id)
}

/** One model, if any node ever registered it. */
export async function findModel(db: Database, id: string): Promise<ModelRow | undefined> {
  return db.select().from(models).where(eq(models.id, id)).get()
}

/** What a model's first heartbeat says of it. */
export type NewModel = Pick<ModelRow, 'id' | 'baseSha256' | 'contextLength' | 'parameters'>

/** The row of a model, made on first sight: a row that is there already stays as it is. */
export async function ensureModel(db: Database, model: NewModel, nowMs: number): Promise<ModelRow> {
  const known = await findModel(db, model.id)
  if (known) return known
  const [, rows] = await db.batch([
    db
      .insert(models)
      .values({ ...model, createdAt: nowMs })
      .onConflictDoNothing(),
    db.select().from(models).where(eq(models.id, model.id)),
  ])
  const [row] = rows
  if (!row) throw new Error(`model ${model.id} is missing right after its insert`)
  return row
}

/** The masks that nodes of a model converge to; null stands for dense, or for no previous one. */
export async function desiredState(db: Database, model: ModelRow): Promise<HeartbeatResponse['desired']> {
  const { activeVersion, previousVersion } = model
  const tried = Object.values(trialsInForce(model)).map(({ version }) => version)
  const rows = await db
    .select({ version: masks.version, sha256: masks.sha256 })
    .from(masks)
    .where(
      and(eq(masks.model, model.id), inArray(masks.version, [activeVersion, previousVersion ?? 0, ...tried])),
    )
  const find = (version: number | null) => rows.find((row) => row.version === version) ?? null
  const trials = rows.filter(({ version }) => tried.includes(version))
  return {
    active: find(activeVersion),
    previous: find(previousVersion),
    ...(trials.length > 0 ? { trials } : {}),
  }
}

/**
 * Begins or ends a trial, by compare-and-set.
 *
 * @returns false when the row has moved on from `revision`.
 */
export async function setTrial(
  db: Database,
  model: Pick<ModelRow, 'id' | 'revision'>,
  kind: TrialKind,
  trial: StoredTrial | null,
): Promise<boolean> {
  const result = await db
    .update(models)
    .set({ [kind]: trial, revision: model.revision + 1 })
    .where(and(eq(models.id, model.id), eq(models.revision, model.revision)))
  return result.meta.changes === 1
}

/**
 * Makes `version` active, and the version active until now the previous one, by compare-and-set.
 *
 * @returns false when the row has moved on from `revision`.
 */
export async function activateVersion(
  db: Database,
  model: Pick<ModelRow, 'id' | 'revision'>,
  version: number,
): Promise<boolean> {
  const result = await db
    .update(models)
    .set({
      previousVersion: sql`${models.activeVersion}`,
      activeVersion: version,
      revision: model.revision + 1,
    })
    .where(and(eq(models.id, model.id), eq(models.revision, model.revision)))
  return result.meta.changes === 1
}

/** A model with what is known of its active mask; `mask` is null while it serves dense. */
export interface ServedModel {
  model: ModelRow
  mask: typeof masks.$inferSelect | null
}

/** Every model with its active mask, sorted by id. */
export async function listServedModels(db: Database): Promise<ServedModel[]> {
  const active = alias(masks, 'active')
  return db
    .select({ model: models, mask: active })
    .from(models)
    .leftJoin(active, and(eq(active.model, models.id), eq(active.version, models.activeVersion)))
    .orderBy(models.id)
}
