import { and, asc, desc, eq, exists, isNotNull, isNull, lt, or, sql, type SQL } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { decisions, masks, models } from '../schema/masks.ts'
import { batches, updates } from '../schema/updates.ts'
import { countDatasets } from './batch-queries.ts'
import { isAmong } from './is-among.ts'
import { isUnchanged, type UpdateRow } from './update-queries.ts'

/** Prefix of the `updateId` of imported masks, which no update made. */
export const IMPORT_PREFIX = 'import:'

/** A registered mask. */
export type MaskRow = typeof masks.$inferSelect

/** Returns one mask of a model. */
export async function findMask(db: Database, model: string, version: number): Promise<MaskRow | undefined> {
  return db.select().from(masks).where(ofVersion(model, version)).get()
}

function ofVersion(model: string, version: number): SQL | undefined {
  return and(eq(masks.model, model), eq(masks.version, version))
}

/** Returns the first version under which a model has a mask file. */
export async function findMaskByHash(
  db: Database,
  model: string,
  sha256: string,
): Promise<MaskRow | undefined> {
  return db
    .select()
    .from(masks)
    .where(and(eq(masks.model, model), eq(masks.sha256, sha256)))
    .orderBy(asc(masks.version))
    .get()
}

/** Returns the newest mask of any model that has a file. */
export async function findMaskOfFile(db: Database, sha256: string): Promise<MaskRow | undefined> {
  return db.select().from(masks).where(eq(masks.sha256, sha256)).orderBy(desc(masks.version)).limit(1).get()
}

/** Returns a model's masks, newest first: at most `limit`, of those with versions below `before`. */
export async function listMasks(
  db: Database,
  model: string,
  { before, limit }: { before?: number | undefined; limit: number },
): Promise<MaskRow[]> {
  return db
    .select()
    .from(masks)
    .where(and(eq(masks.model, model), before === undefined ? undefined : lt(masks.version, before)))
    .orderBy(desc(masks.version))
    .limit(limit)
}

/** Returns the masks with the given versions, of any model. */
export async function listMaskVersions(db: Database, versions: readonly number[]): Promise<MaskRow[]> {
  return db.select().from(masks).where(isAmong(masks.version, versions))
}

/** A mask that was ever active, with the domains that its update calibrated on; empty if it was imported. */
export interface PromotedMask {
  mask: MaskRow
  updateDomains: string[]
}

/** Returns a model's masks that were ever active, in the order of their first promotion. */
export async function listPromotedMasks(db: Database, model: string): Promise<PromotedMask[]> {
  const rows = await db
    .select({ mask: masks, updateDomains: updates.domains })
    .from(masks)
    .leftJoin(updates, eq(updates.id, masks.updateId))
    .where(and(eq(masks.model, model), isNotNull(masks.promotedAt)))
    .orderBy(asc(masks.promotedAt), asc(masks.version))
  return rows.map(({ mask, updateDomains }) => ({ mask, updateDomains: updateDomains ?? [] }))
}

/** Registers a candidate of an update under the model's next version. Repeating it for the same candidate returns the same mask. */
export async function registerMask(
  db: Database,
  mask: Omit<typeof masks.$inferInsert, 'version' | 'promotedAt'>,
): Promise<MaskRow> {
  const { model, updateId, candidate = 1 } = mask
  const nextVersion = sql<number>`(select coalesce(max(${masks.version}), 0) + 1 from ${masks} where ${masks.model} = ${model})`
  const [, rows] = await db.batch([
    db
      .insert(masks)
      .values({ ...mask, version: nextVersion })
      .onConflictDoNothing({ target: [masks.updateId, masks.candidate] }),
    db
      .select()
      .from(masks)
      .where(and(eq(masks.updateId, updateId), eq(masks.candidate, candidate))),
  ])
  const [row] = rows
  if (!row) throw new Error(`the mask of update ${updateId} is missing right after its insert`)
  return row
}

/**
 * Makes an update's mask the active one and the active one the previous, and counts its datasets in the statistics, in
 * one transaction. Does so only once and only while the update is promoting, so that a repetition does not undo a roll-back;
 * and only while its parent is active, with which the mask was compared, unless an operator has forced it.
 *
 * @returns the mask afterwards
 */
export async function promoteMask(
  db: Database,
  update: Pick<UpdateRow, 'id' | 'model'>,
  version: number,
  nowMs: number,
): Promise<MaskRow | undefined> {
  const { id: updateId, model } = update
  const promoting = sql`exists (select 1 from ${updates} where ${updates.id} = ${updateId} and ${updates.state} = 'promoting')`
  const parent = sql`(select coalesce(${updates.parentVersion}, 0) from ${updates} where ${updates.id} = ${updateId})`
  const forced = sql`exists (select 1 from ${decisions} where ${decisions.updateId} = ${updateId} and ${decisions.kind} = 'force')`
  const activated = sql`exists (select 1 from ${models} where ${models.id} = ${model} and ${models.activeVersion} = ${version})`
  const candidate = sql`exists (select 1 from ${masks} where ${masks.model} = ${model} and ${masks.version} = ${version} and ${masks.promotedAt} is null)`
  const [, , , rows] = await db.batch([
    db
      .update(models)
      .set({
        previousVersion: sql`${models.activeVersion}`,
        activeVersion: version,
        revision: sql`${models.revision} + 1`,
      })
      .where(and(eq(models.id, model), promoting, candidate, or(eq(models.activeVersion, parent), forced))),
    db
      .update(masks)
      .set({ promotedAt: nowMs })
      .where(
        and(
          eq(masks.model, model),
          eq(masks.version, version),
          isNull(masks.promotedAt),
          promoting,
          activated,
        ),
      ),
    countDatasets(db, updateId, sql`${promoting} and ${activated}`, nowMs),
    db.select().from(masks).where(ofVersion(model, version)),
  ])
  return rows[0]
}

/**
 * Creates the statements that revert {@link promoteMask} for a promoting update that ends: the previous version is active again, and
 * the mask counts as never promoted. A domain whose own mask it was is served by the shared one again.
 */
export function revertPromotion(
  db: Database,
  update: Pick<UpdateRow, 'id' | 'model' | 'revision' | 'maskVersion'>,
) {
  const { id, model } = update
  const version = update.maskVersion ?? 0
  const unchanged = and(isUnchanged(update), eq(updates.state, 'promoting'))
  const promoting = exists(db.select({ id: updates.id }).from(updates).where(unchanged))
  return [
    db
      .update(models)
      .set({
        activeVersion: sql`coalesce(${models.previousVersion}, 0)`,
        // Not the mask that cannot be loaded, because nodes would try to keep it loaded.
        previousVersion: null,
        revision: sql`${models.revision} + 1`,
      })
      .where(and(eq(models.id, model), eq(models.activeVersion, version), promoting)),
    db
      .update(masks)
      .set({ promotedAt: null })
      .where(and(eq(masks.model, model), eq(masks.version, version), promoting)),
    db.delete(batches).where(and(eq(batches.updateId, id), promoting)),
    db
      .update(models)
      .set({
        domainVersions: sql`(select json_group_object(own.key, own.value) from json_each(${models.domainVersions}) own where own.value <> ${version})`,
        revision: sql`${models.revision} + 1`,
      })
      .where(
        and(
          eq(models.id, model),
          promoting,
          sql`exists (select 1 from json_each(${models.domainVersions}) own where own.value = ${version})`,
        ),
      ),
  ]
}
