import { and, eq, isNull, lt, sql, type SQL } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { classifiers, datasets } from '../schema/domains.ts'
import { masks, models } from '../schema/masks.ts'
import { sweepPlaces } from '../schema/sweeps.ts'
import { jobs, updates } from '../schema/updates.ts'
import { isAmong } from './is-among.ts'
import type { MaskRow } from './mask-queries.ts'

/** Masks that were last active and are kept whatever their age is, for each model. */
const KEPT_PROMOTED = 5

/** Pins a mask, which also keeps a file that was about to be deleted, or unpins it. */
export async function setPinned(db: Database, { model, version }: MaskRow, pinned: boolean): Promise<void> {
  await db
    .update(masks)
    .set(pinned ? { pinned, sweptAt: null } : { pinned })
    .where(and(eq(masks.model, model), eq(masks.version, version)))
}

/** Keeps the file of a mask that was given up and stored again. */
export async function keepFile(db: Database, { model, version }: MaskRow): Promise<void> {
  await db
    .update(masks)
    .set({ sweptAt: null })
    .where(and(eq(masks.model, model), eq(masks.version, version)))
}

/** Gives up the files of masks that nothing needs and that are older than `beforeMs`. */
export async function giveUpMasks(db: Database, beforeMs: number, nowMs: number): Promise<void> {
  const old = and(isNull(masks.sweptAt), lt(masks.createdAt, beforeMs))
  const unused = sql`coalesce(${masks.promotedAt}, 0) < ${beforeMs}`
  await db
    .update(masks)
    .set({ sweptAt: nowMs })
    .where(and(old, unused, sql`not (${isMaskInUse()})`))
}

/** Keeps the files of given up masks after all that became needed again. */
export async function keepUsedMasks(db: Database): Promise<void> {
  await db
    .update(masks)
    .set({ sweptAt: null })
    .where(and(sql`${masks.sweptAt} is not null`, isMaskInUse()))
}

/** Returns the key after which the sweep of files with a prefix goes on; undefined if it begins with the first. */
export async function findSweepPlace(db: Database, prefix: string): Promise<string | undefined> {
  return (await db.select().from(sweepPlaces).where(eq(sweepPlaces.prefix, prefix)).get())?.after
}

/** Stores the key after which the next sweep goes on; without one it begins with the first. */
export async function setSweepPlace(db: Database, prefix: string, after: string | undefined): Promise<void> {
  if (after === undefined) await db.delete(sweepPlaces).where(eq(sweepPlaces.prefix, prefix))
  else
    await db
      .insert(sweepPlaces)
      .values({ prefix, after })
      .onConflictDoUpdate({ target: sweepPlaces.prefix, set: { after } })
}

/** Returns those of some mask files that must be kept: of masks that are not given up since `beforeMs`, and of running updates. */
export async function keptMasks(
  db: Database,
  hashes: readonly string[],
  beforeMs: number,
): Promise<Set<string>> {
  const registered = await db
    .selectDistinct({ hash: masks.sha256 })
    .from(masks)
    .where(
      and(
        isAmong(masks.sha256, hashes),
        sql`(${masks.sweptAt} is null or ${masks.sweptAt} >= ${beforeMs} or ${isMaskInUse()})`,
      ),
    )
  const named = await db.all<{
    hash: string
  }>(sql`select value as hash from json_each(${JSON.stringify(hashes)})
    where exists (select 1 from ${updates} cross join ${jobs} on ${jobs.updateId} = ${updates.id}
      where ${updates.finishedAt} is null
        and instr(${jobs.payload} || coalesce(${jobs.result}, ''), value) > 0)`)
  return new Set([...registered, ...named].map(({ hash }) => hash))
}

/** Returns those of some datasets that are recorded and have not expired. */
export async function keptDatasets(db: Database, hashes: readonly string[]): Promise<Set<string>> {
  const rows = await db
    .select({ hash: datasets.sha256 })
    .from(datasets)
    .where(and(isAmong(datasets.sha256, hashes), isNull(datasets.expiredAt)))
  return new Set(rows.map(({ hash }) => hash))
}

/** Returns those of some classifiers that are recorded. */
export async function keptClassifiers(db: Database, hashes: readonly string[]): Promise<Set<string>> {
  const rows = await db
    .selectDistinct({ hash: classifiers.sha256 })
    .from(classifiers)
    .where(isAmong(classifiers.sha256, hashes))
  return new Set(rows.map(({ hash }) => hash))
}

/** Whether anything needs a row of `masks`: a pin, its model, a running update, or that it was active of late. */
export function isMaskInUse(): SQL {
  return sql`(
    ${masks.pinned}
    or exists (select 1 from ${models} where ${models.id} = ${masks.model} and (
      ${masks.version} in (${models.activeVersion}, ${models.previousVersion},
        ${models.canary} ->> 'version', ${models.canary} ->> 'beside', ${models.shadow} ->> 'version',
        ${models.shadow} ->> 'beside', ${models.watch} ->> 'version', ${models.watch} ->> 'beside')
      or exists (select 1 from json_each(${models.domainVersions}) own where own.value = ${masks.version})))
    or exists (select 1 from ${updates} where ${updates.model} = ${masks.model} and ${updates.finishedAt} is null
      and (${updates.id} = ${masks.updateId} or ${updates.parentVersion} = ${masks.version}))
    or (${masks.model}, ${masks.version}) in (select model, version from (
      select model, version, row_number() over (partition by model order by promoted_at desc) place
      from masks where promoted_at is not null) where place <= ${KEPT_PROMOTED}))`
}
