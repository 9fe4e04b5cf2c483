import { ne, sql, type SQL } from 'drizzle-orm'
import { DURATION_BOUNDS_MS, FIRST_TOKEN_BOUNDS_MS } from '@copal/shared/metrics/latency-histogram.ts'
import type { Database } from '../../../contracts/database.ts'
import { metricCounts } from '../schema/usage.ts'
import { addedColumns } from './added-columns.ts'
import type { HistoryRecord } from './history-queries.ts'
import { jsonColumn, jsonColumns } from './json-columns.ts'
import { bucketOf } from './period-changes.ts'

/** A count behind a metric, by the values of its labels. */
export type MetricCount = typeof metricCounts.$inferSelect

/** The label of errors whose receipts name no code: those of older nodes. */
const UNKNOWN_CODE = 'unknown'

/** The label of a histogram's sum, milliseconds, in the place of the number of a bucket. */
export const SUM_LABEL = 'sum'

/** Adds to counts, by one statement. */
export async function addMetricCounts(db: Database, counts: readonly MetricCount[]): Promise<void> {
  const added = counts.filter(({ value }) => value > 0)
  if (added.length === 0) return
  await addRows(
    db,
    sql`select ${jsonColumns('metric', 'labels')}, sum(${jsonColumn('value')})
    from json_each(${JSON.stringify(added)}) group by 1, 2`,
  )
}

/** Stores the value of a gauge. Writes nothing where it has that value. */
export async function setMetricCount(db: Database, count: MetricCount): Promise<void> {
  await db
    .insert(metricCounts)
    .values(count)
    .onConflictDoUpdate({
      target: [metricCounts.metric, metricCounts.labels],
      set: { value: count.value },
      setWhere: ne(metricCounts.value, count.value),
    })
}

/** Counts records that the retention deleted. */
export async function countDeleted(
  db: Database,
  kind: HistoryRecord | 'receipt' | 'score' | 'file',
  deleted: number,
): Promise<void> {
  await addMetricCounts(db, [{ metric: 'recordsDeleted', labels: [kind], value: deleted }])
}

/**
 * Counts receipts by model: their latencies by bucket, their errors by code, and whether they were scored. Unlike periods these
 * sums never fall, as counters must not. Run it in the transaction that stores the receipts, before they are stored.
 *
 * @param changes a common table expression `changed`; estimates, superseded attempts and what was counted before are left out
 */
export function addChangesToMetricCounts(db: Database, changes: SQL) {
  const durations = bucketOf('total_ms', DURATION_BOUNDS_MS)
  const firstTokens = bucketOf('time_to_first_token_ms', FIRST_TOKEN_BOUNDS_MS)
  // In one term of the union: D1 allows five.
  const outcomes = sql`json_object(
    'scoringOutcomes', scoring,
    'requestErrors', iif(finish_reason = 'error', coalesce(error_code, ${UNKNOWN_CODE}), null))`
  return addRows(
    db,
    sql`with ${changes}, settled as (
      select * from changed where sign > 0 and not moved and not estimated and finish_reason <> 'superseded'
    ), counted(metric, model, label, value) as (
      select 'requestDuration', model, cast(${durations} as text), 1 from settled
      union all select 'requestDuration', model, ${SUM_LABEL}, total_ms from settled
      union all select 'timeToFirstToken', model, cast(${firstTokens} as text), 1 from settled
        where time_to_first_token_ms is not null
      union all select 'timeToFirstToken', model, ${SUM_LABEL}, time_to_first_token_ms from settled
        where time_to_first_token_ms is not null
      union all select each.key, model, each.value, 1 from settled, json_each(${outcomes}) each where each.value is not null
    )
    select metric, json_array(model, label), cast(round(sum(value)) as integer) from counted group by 1, 2`,
  )
}

function addRows(db: Database, rows: SQL) {
  return db
    .insert(metricCounts)
    .select(rows)
    .onConflictDoUpdate({
      target: [metricCounts.metric, metricCounts.labels],
      set: addedColumns(['value']),
    })
}

/** Returns all counts. */
export async function listMetricCounts(db: Database): Promise<MetricCount[]> {
  return db.select().from(metricCounts).orderBy(metricCounts.metric, metricCounts.labels)
}
