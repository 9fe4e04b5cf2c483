import { and, eq, exists, isNull, sql } from 'drizzle-orm'
import { alias } from 'drizzle-orm/sqlite-core'
import type { HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { trialsInForce } from '../trials-in-force.ts'
import type { StoredTrial, TrialKind } from '../../../contracts/trial.ts'
import type { Database } from '../../../contracts/database.ts'
import { masks, models } from '../schema/masks.ts'
import { updates } from '../schema/updates.ts'

/** A model that a node ever registered, with its desired state. */
export type ModelRow = typeof models.$inferSelect

/** Returns every model, sorted by id. */
export async function listModels(db: Database): Promise<ModelRow[]> {
  return db.select().from(models).orderBy(models.id)
}

/** Returns one model, if any node ever registered it. */
export async function findModel(db: Database, id: string): Promise<ModelRow | undefined> {
  return db.select().from(models).where(eq(models.id, id)).get()
}

/** The properties of a model in its first heartbeat. */
export type NewModel = Pick<ModelRow, 'id' | 'baseSha256' | 'contextLength' | 'parameters'>

/** The desired state of a model's nodes, and whether an update may have jobs for them. */
export interface ModelState {
  model: ModelRow
  /** The masks that nodes converge to; null means dense weights, or no previous mask. */
  desired: HeartbeatResponse['desired']
  /** Whether an update of the model is running; only then are there jobs. */
  isUpdating: boolean
  /** Whether the active mask is being promoted, so that nodes take it over in waves, see `fleet/registration/roll-out.ts`. */
  isRollingOut: boolean
}

/** Returns the state of a model by one statement, because every heartbeat of every node asks for it. */
export async function findModelState(db: Database, id: string): Promise<ModelState | undefined> {
  const trialVersion = (trial: typeof models.canary | typeof models.shadow) =>
    sql`json_extract(${trial}, '$.version')`
  const isRunning = and(eq(updates.model, models.id), isNull(updates.finishedAt))
  const isPromoting = and(
    isRunning,
    eq(updates.state, 'promoting'),
    eq(updates.maskVersion, models.activeVersion),
    isNull(updates.ownDomain),
  )
  const hasUpdate = (which: typeof isRunning) =>
    exists(
      db
        .select({ one: sql`1` })
        .from(updates)
        .where(which),
    ).mapWith(Boolean)
  const rows = await db
    .select({
      model: models,
      mask: { version: masks.version, sha256: masks.sha256 },
      isUpdating: hasUpdate(isRunning),
      isRollingOut: hasUpdate(isPromoting),
    })
    .from(models)
    .leftJoin(
      masks,
      and(
        eq(masks.model, models.id),
        // One list, by which SQLite looks the masks up: with two it reads all masks of the model.
        sql`${masks.version} in (
          select ${models.activeVersion} union all select ${models.previousVersion}
          union all select ${trialVersion(models.canary)} union all select ${trialVersion(models.shadow)}
          union all select value from json_each(${models.domainVersions}))`,
      ),
    )
    .where(eq(models.id, id))
  const [first] = rows
  if (!first) return undefined
  const { model, isUpdating, isRollingOut } = first
  const known = rows.flatMap(({ mask }) => mask ?? [])
  const find = (version: number | null) => known.find((mask) => mask.version === version) ?? null
  const onTrial = Object.values(trialsInForce(model)).map(({ version }) => version)
  const trials = known.filter(({ version }) => onTrial.includes(version))
  const own = [...model.domainVersions].flatMap(([domain, version]) => {
    const mask = find(version)
    return mask ? [{ domain, ...mask }] : []
  })
  return {
    model,
    desired: {
      active: find(model.activeVersion),
      previous: find(model.previousVersion),
      ...(trials.length > 0 ? { trials } : {}),
      ...(own.length > 0 ? { own } : {}),
    },
    isUpdating,
    isRollingOut,
  }
}

/** Returns the state of a model and registers it if it is new; an existing row is not changed. */
export async function ensureModel(db: Database, model: NewModel, nowMs: number): Promise<ModelState> {
  const known = await findModelState(db, model.id)
  if (known) return known
  await db
    .insert(models)
    .values({ ...model, createdAt: nowMs })
    .onConflictDoNothing()
  const created = await findModelState(db, model.id)
  if (!created) throw new Error(`Model '${model.id}' is missing right after its insert.`)
  return created
}

/**
 * Begins or ends a trial, by compare-and-set.
 *
 * @returns false if the row has another revision
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

/** A model with its active mask; `mask` is null while it serves dense weights. */
export interface ServedModel {
  model: ModelRow
  mask: typeof masks.$inferSelect | null
}

/** Returns every model with its active mask, sorted by id. */
export async function listServedModels(db: Database): Promise<ServedModel[]> {
  const active = alias(masks, 'active')
  return db
    .select({ model: models, mask: active })
    .from(models)
    .leftJoin(active, and(eq(active.model, models.id), eq(active.version, models.activeVersion)))
    .orderBy(models.id)
}
