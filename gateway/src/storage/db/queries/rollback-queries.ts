import { and, eq, exists, inArray, isNotNull, isNull, or, sql } from 'drizzle-orm'
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core'
import type { UpdateState } from '@copal/shared/wire/admin.ts'
import type { Database } from '../../../contracts/database.ts'
import { decisions, masks, models } from '../schema/masks.ts'
import { batches, jobs, updateInputs, updates } from '../schema/updates.ts'
import { changeCounted } from './batch-queries.ts'
import { isAmong } from './is-among.ts'
import { isForceableUpdate } from './dataset-queries.ts'
import type { ModelRow } from './model-queries.ts'
import type { UpdateRow } from './update-queries.ts'

/** A mask that was ever active, as a roll-back considers it. */
export type ServedMask = Pick<
  typeof masks.$inferSelect,
  'version' | 'parentVersion' | 'promotedAt' | 'updateId'
>

/** Returns a model's masks that were ever active. */
export async function listServedMasks(db: Database, model: string): Promise<ServedMask[]> {
  const { version, parentVersion, promotedAt, updateId } = masks
  return db
    .select({ version, parentVersion, promotedAt, updateId })
    .from(masks)
    .where(and(eq(masks.model, model), isNotNull(masks.promotedAt)))
}

/** Whether an update's mask is selected from a dataset that was rolled back. Jobs of earlier versions name what they count. */
const readsUncounted = sql`exists (
  select 1 from ${batches}
  where ${batches.model} = ${updates.model} and ${batches.state} = 'quarantined'
    and ${batches.datasetSha256} in (
      select ${updateInputs.datasetSha256} from ${updateInputs} where ${updateInputs.updateId} = ${updates.id}
      union all
      select json_extract(counted.value, '$.sha256') from ${jobs}, json_each(${jobs.payload}, '$.accumulated') counted
      where ${jobs.updateId} = ${updates.id} and ${jobs.kind} = 'calibrate'
    )
    and not exists (
      select 1 from ${batches} kept
      where kept.model = ${batches.model} and kept.dataset_sha256 = ${batches.datasetSha256} and kept.state = 'counted'
    )
)`

const withoutUpdate = (trial: SQLiteColumn) =>
  sql`case when json_extract(${trial}, '$.updateId') is null then ${trial} end`

/** A change of the updates that some masks belong to, from some states to another one. */
export interface UpdateChange {
  masks: readonly ServedMask[]
  from: readonly UpdateState[]
  to: UpdateState
}

/** A change of the active mask to one that was active before. */
export interface ActivationChange {
  version: number
  rolledBack: UpdateChange
  reinstated: UpdateChange
  /** The change of updates that run, or can still be forced, and whose masks are selected from texts that do not count any more. */
  superseded: Omit<UpdateChange, 'masks'> & { error: { code: string; message: string } }
  /** The decision itself, and those that single domains lose their own masks, which were compared with another shared mask. */
  decisions: readonly ActivationDecision[]
}

/** A decision, without what it takes from the change. */
export type ActivationDecision = Omit<typeof decisions.$inferInsert, 'id' | 'model' | 'createdAt'>

/**
 * Makes an earlier mask active and the active one the previous, moves updates and their batches, and stores the decisions, in
 * one transaction, by compare-and-set on the model. So an update that is promoting cannot activate its mask afterwards.
 *
 * @returns the updates that were superseded; undefined if the model has another revision, then nothing is changed
 */
export async function activateEarlier(
  db: Database,
  model: Pick<ModelRow, 'id' | 'revision'>,
  { version, rolledBack, reinstated, superseded, decisions: made }: ActivationChange,
  nowMs: number,
): Promise<UpdateRow[] | undefined> {
  const { id, revision } = model
  const unchanged = exists(
    db
      .select({ one: sql`1` })
      .from(models)
      .where(and(eq(models.id, id), eq(models.revision, revision))),
  )
  const ended = {
    revision: sql`${updates.revision} + 1`,
    finishedAt: sql`coalesce(${updates.finishedAt}, ${nowMs})`,
  }
  const move = ({ masks: moved, from, to }: UpdateChange) =>
    db
      .update(updates)
      .set({ ...ended, state: to })
      .where(
        and(
          eq(updates.model, id),
          // Not by the id in the mask: an imported mask names no update, but an update activates it.
          isAmong(
            updates.maskVersion,
            moved.map((mask) => mask.version),
          ),
          inArray(updates.state, [...from]),
          unchanged,
        ),
      )
  const { error, from, to } = superseded
  const endSuperseded = db
    .update(updates)
    .set({
      ...ended,
      state: to,
      endedIn: sql`iif(${updates.finishedAt} is null, ${updates.state}, ${updates.endedIn})`,
      errorCode: error.code,
      errorMessage: error.message,
    })
    .where(
      and(
        eq(updates.model, id),
        or(and(isNull(updates.finishedAt), inArray(updates.state, [...from])), isForceableUpdate(nowMs)),
        readsUncounted,
        unchanged,
      ),
    )
    .returning()
  const stored = made.map((each) =>
    db.insert(decisions).select(
      sql`select null, ${id}, ${each.updateId ?? null}, ${each.maskVersion ?? null}, ${each.kind},
        ${each.verdict}, ${each.reason}, ${JSON.stringify(each.figures ?? [])}, ${each.actor}, ${nowMs}
        where ${unchanged}`,
    ),
  )
  // The row of the model changes last, because the other statements depend on its revision.
  const results = await db.batch([
    move(rolledBack),
    move(reinstated),
    ...changeCounted(db, id, {
      out: rolledBack.masks.map(({ updateId }) => updateId),
      back: reinstated.masks.map(({ updateId }) => updateId),
      guard: sql`${unchanged}`,
    }),
    endSuperseded,
    ...stored,
    db
      .update(models)
      .set({
        previousVersion: sql`${models.activeVersion}`,
        activeVersion: version,
        // Trials of updates are beside the mask that was active. If it becomes active again they must not go on.
        canary: withoutUpdate(models.canary),
        shadow: withoutUpdate(models.shadow),
        domainVersions: new Map(),
        revision: revision + 1,
      })
      .where(and(eq(models.id, id), eq(models.revision, revision))),
  ])
  const last = results.at(-1)
  if (!last || !('meta' in last) || last.meta.changes !== 1) return undefined
  return results.find((result) => Array.isArray(result)) ?? []
}
