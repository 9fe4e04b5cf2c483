import { sql, type SQL } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { holdouts } from '../schema/domains.ts'
import { apiKeys } from '../schema/keys.ts'
import { decisions, evaluations, masks } from '../schema/masks.ts'
import { batches, jobs, updates } from '../schema/updates.ts'
import { receipts, usageDays, usageTotals } from '../schema/usage.ts'
import { isMaskInUse } from './sweep-queries.ts'

/** The bounds of a deletion of old records. */
interface HistoryBounds {
  /** Records from before this time are old, Unix milliseconds. */
  beforeMs: number
  /** Files of masks that were given up before this time are deleted, Unix milliseconds. */
  sweptBeforeMs: number
  /** Rows that a statement deletes at most. */
  limit: number
}

/** Conditions by which the rows of a table are old and needed no more. Masks that were ever active stay: a roll-back follows their line. */
const OLD_RECORDS = {
  /** Jobs of updates that have ended. */
  job: ({ beforeMs }) => sql`select rowid from ${jobs} where ${jobs.updateId} in (
    select ${updates.id} from ${updates} where ${updates.finishedAt} < ${beforeMs})`,

  /** Decisions, except about masks that have a file: the gate's verdict on these still matters. */
  decision: ({ beforeMs }) => sql`select rowid from ${decisions} where ${decisions.createdAt} < ${beforeMs}
    and not exists (select 1 from ${masks} where ${masks.model} = ${decisions.model}
      and ${masks.version} = ${decisions.maskVersion} and ${masks.sweptAt} is null)`,

  /** Sums of the usage of masks that are not in use; those of the dense model stay. */
  usage_total: ({ beforeMs }) => sql`select used.rowid from ${masks}
    cross join ${usageTotals} used indexed by usage_totals_mask
      on used.model = ${masks.model} and used.mask_version = ${masks.version}
    where ${masks.createdAt} < ${beforeMs} and coalesce(${masks.promotedAt}, 0) < ${beforeMs} and not ${isMaskInUse()}`,

  /** Masks that never served and have no file any more; not the newest, because its number must not be used again. */
  mask: ({ beforeMs, sweptBeforeMs }) => sql`select rowid from ${masks}
    where ${masks.createdAt} < ${beforeMs} and ${masks.promotedAt} is null and ${masks.sweptAt} < ${sweptBeforeMs}
      and ${masks.version} < (select max(version) from ${masks} newest where newest.model = ${masks.model})
      and not exists (select 1 from ${usageTotals} where ${usageTotals.model} = ${masks.model}
        and ${usageTotals.maskVersion} = ${masks.version})
      and not ${isMaskInUse()}`,

  /** Losses on earlier versions of holdouts, and of masks that neither have a file nor ever served. */
  evaluation: ({
    beforeMs,
  }) => sql`select rowid from ${evaluations} where ${evaluations.createdAt} < ${beforeMs} and not (
    exists (select 1 from ${holdouts} where ${holdouts.domain} = ${evaluations.domain}
      and ${holdouts.sha256} = ${evaluations.holdoutSha256}
      and ${holdouts.version} = (select max(version) from ${holdouts} latest where latest.domain = ${holdouts.domain}))
    and (${evaluations.version} = 0 or exists (select 1 from ${masks} where ${masks.model} = ${evaluations.model}
      and ${masks.version} = ${evaluations.version} and (${masks.promotedAt} is not null or ${masks.sweptAt} is null))))`,

  /** Updates that left neither a registered mask nor a batch of texts; not the last one of a model. */
  update: ({ beforeMs }) => sql`select rowid from ${updates} where ${updates.finishedAt} < ${beforeMs}
    and not exists (select 1 from ${batches} where ${batches.updateId} = ${updates.id})
    and not exists (select 1 from ${masks} where ${masks.updateId} = ${updates.id})
    and not exists (select 1 from ${masks} where ${masks.model} = ${updates.model} and ${masks.version} = ${updates.maskVersion})
    and not exists (select 1 from ${jobs} where ${jobs.updateId} = ${updates.id})
    and exists (select 1 from ${updates} later where later.model = ${updates.model} and later.rowid > "updates".rowid)`,

  /** Revoked keys that nothing is charged to any more. */
  key: ({ beforeMs }) => sql`select rowid from ${apiKeys} where ${apiKeys.revokedAt} < ${beforeMs}
    and not exists (select 1 from ${receipts} where ${receipts.keyId} = ${apiKeys.id})
    and not exists (select 1 from ${usageDays} where ${usageDays.keyId} = ${apiKeys.id})`,
} satisfies Record<string, (bounds: HistoryBounds) => SQL>

const TABLES = {
  job: jobs,
  decision: decisions,
  usage_total: usageTotals,
  mask: masks,
  evaluation: evaluations,
  update: updates,
  key: apiKeys,
} satisfies Record<HistoryRecord, unknown>

/** A kind of records that are deleted when they are old. */
export type HistoryRecord = keyof typeof OLD_RECORDS

/** The kinds, each after those that keep its records. */
export const HISTORY_RECORDS = Object.keys(OLD_RECORDS) as readonly HistoryRecord[]

/** Deletes some of the old records of a kind that nothing needs any more. @returns how many */
export async function deleteHistory(
  db: Database,
  kind: HistoryRecord,
  bounds: HistoryBounds,
): Promise<number> {
  const old = sql`${OLD_RECORDS[kind](bounds)} limit ${bounds.limit}`
  // Not the changes that D1 reports: rows that a trigger of the database changes are among them.
  const deleted = await db
    .delete(TABLES[kind])
    .where(sql`rowid in (${old})`)
    .returning({ one: sql`1` })
  return deleted.length
}
