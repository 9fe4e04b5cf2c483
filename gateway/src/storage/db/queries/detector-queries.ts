import { and, asc, eq, inArray, isNull, lt, sql, type SQL } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { alerts, detectorCursors, detectorStates } from '../schema/detectors.ts'
import { domains } from '../schema/domains.ts'
import { models } from '../schema/masks.ts'
import { receipts } from '../schema/usage.ts'
import type { AlertRow } from './alert-queries.ts'
import { isAmong } from './is-among.ts'
import { countedDomains } from './period-domains.ts'
import { jsonColumns } from './json-columns.ts'

/** The detectors of one signal of one domain, as stored. */
export type DetectorRow = typeof detectorStates.$inferSelect

/** The input of the detectors from some scored requests: means over the requests of their clipped losses, nats a token. */
export interface Observation {
  domain: string
  maskVersion: number
  /** Start of the minute in which their receipts were stored, Unix milliseconds. */
  minuteMs: number
  requests: number
  dense: number
  gap: number
}

/** How the scores of single requests are read. */
export interface ObservationRules {
  /** Requests of which fewer tokens were scored are left out. */
  minTokens: number
  /** Maximum observations of a domain and mask a minute; where there were more requests, each is a mean over some. */
  perMinute: number
  /** Losses of a request beyond these bounds count as the bound. */
  dense: readonly [number, number]
  gap: readonly [number, number]
}

const MINUTE_MS = 60_000
/** States of one statement, so that its parameter stays below 2 MB. */
const STATES_PER_STATEMENT = 100

/** Returns how far the detectors of a model have read, Unix milliseconds; 0 if they never did. */
export async function findDetectorCursor(db: Database, model: string): Promise<number> {
  const row = await db.select().from(detectorCursors).where(eq(detectorCursors.model, model)).get()
  return row?.throughMs ?? 0
}

/**
 * Returns the observations of the receipts that were stored in a time, oldest first, of registered domains. The cost is that of
 * the receipts of this time, whose masks are found by the periods of its minutes, and the number of rows has a bound by `perMinute`,
 * however many receipts there were.
 */
export async function listObservations(
  db: Database,
  model: string,
  { fromMs, toMs }: { fromMs: number; toMs: number },
  rules: ObservationRules,
): Promise<Observation[]> {
  const clipped = (value: SQL, [min, max]: readonly [number, number]) =>
    sql`min(max(${value}, ${min}), ${max})`
  // A parameter would be a floating-point number, and the division not one of integers.
  const minute = sql.raw(`created_at / ${MINUTE_MS} * ${MINUTE_MS}`)
  const parts = sql.raw(`ntile(${Math.floor(rules.perMinute)})`)
  const { driftTokens, nllDense, nllMasked } = receipts
  return db.all<Observation>(sql`
    with scored as (
      select domain, mask_version, request_id, created_at, ${minute} minute,
        ${clipped(sql`${nllDense} / ${driftTokens}`, rules.dense)} dense,
        ${clipped(sql`(${nllMasked} - ${nllDense}) / ${driftTokens}`, rules.gap)} gap
      from ${receipts}
      where model = ${model} and created_at >= ${fromMs} and created_at < ${toMs}
        and mask_version in (
          select period.mask_version from ${countedDomains(model)} counted
            cross join traffic_periods period on period.model = ${model} and period.domain = counted.domain
              and period.width = 60 and period.start >= ${Math.floor(fromMs / MINUTE_MS) * 60} and period.start < ${toMs / 1000})
        and drift_tokens >= ${rules.minTokens} and nll_dense is not null and nll_masked is not null
        and finish_reason <> 'superseded' and domain in (select name from ${domains})
    ), parts as (
      select *, ${parts} over (
        partition by domain, mask_version, minute order by created_at, request_id
      ) part from scored
    )
    select domain, mask_version "maskVersion", minute "minuteMs", count(*) requests, avg(dense) dense, avg(gap) gap
    from parts group by domain, mask_version, minute, part order by minute, domain, mask_version, part`)
}

/** Returns the stored detectors of some domains of a model, or of all models and domains. */
export async function listDetectorStates(
  db: Database,
  model?: string,
  ofDomains?: readonly string[],
): Promise<DetectorRow[]> {
  const { model: named, domain, signal, maskVersion } = detectorStates
  return db
    .select()
    .from(detectorStates)
    .where(
      and(
        model === undefined ? undefined : eq(named, model),
        ofDomains === undefined ? undefined : isAmong(domain, ofDomains),
      ),
    )
    .orderBy(asc(named), asc(domain), asc(signal), asc(maskVersion))
}

/** The statistics of the detectors of one signal, which {@link ALARM_THRESHOLDS} are compared with. */
export interface DetectorStatistics extends Pick<DetectorRow, 'model' | 'domain' | 'maskVersion' | 'signal'> {
  pageHinkley: number
  adwin: number
}

/**
 * Returns the statistics of the detectors of registered domains: of their traffic, and of the gap under the masks that serve
 * now. A scrape reads them, so they come without the states that they are of.
 */
export async function listDetectorStatistics(db: Database): Promise<DetectorStatistics[]> {
  const { model, domain, maskVersion, signal, state } = detectorStates
  const part = (path: string) => sql<number>`json_extract(${state}, ${sql.raw(`'$.${path}'`)})`
  const own = sql`json_extract(${models.domainVersions}, '$."' || ${domain} || '"')`
  return db
    .select({
      model,
      domain,
      maskVersion,
      signal,
      pageHinkley: sql<number>`max(${part('pageHinkley.up.sum')}, ${part('pageHinkley.down.sum')})`,
      adwin: part('adwin.ratio'),
    })
    .from(detectorStates)
    .innerJoin(models, eq(models.id, model))
    .where(
      and(
        inArray(domain, db.select({ name: domains.name }).from(domains)),
        sql`(${signal} = 'dense' or ${maskVersion} = coalesce(${own}, ${models.activeVersion}))`,
      ),
    )
    .orderBy(asc(model), asc(domain), asc(signal))
}

/** The observations that the detectors of one signal have now: since Page-Hinkley was started anew, and in ADWIN's window. */
export interface ObservationCounts extends Pick<DetectorRow, 'domain' | 'maskVersion' | 'signal'> {
  pageHinkley: number
  adwin: number
}

/** Returns the observations that the detectors of domains have: of their traffic, and of the gap under the masks that are named. */
export async function listObservationCounts(
  db: Database,
  model: string,
  served: readonly { name: string; maskVersion: number }[],
): Promise<ObservationCounts[]> {
  const { domain, maskVersion, signal, state } = detectorStates
  const names = served.map(({ name }) => name)
  const versions = [0, ...new Set(served.map((each) => each.maskVersion))]
  return db
    .select({
      domain,
      maskVersion,
      signal,
      pageHinkley: sql<number>`json_extract(${state}, '$.pageHinkley.count')`,
      // A bucket of level i is two numbers, and stands for 2^i observations.
      adwin: sql<number>`(
        select coalesce(sum(json_array_length(level.value) / 2 * (1 << level.key)), 0)
        from json_each(${state}, '$.adwin.levels') level)`,
    })
    .from(detectorStates)
    .where(and(eq(detectorStates.model, model), isAmong(domain, names), isAmong(maskVersion, versions)))
}

/** The changes after reading some receipts. */
export interface DetectorAdvance {
  model: string
  /** How far the detectors had read before, and have read now, Unix milliseconds. */
  fromCursorMs: number
  throughMs: number
  states: readonly DetectorRow[]
  raised: readonly AlertRow[]
  ended: readonly string[]
  nowMs: number
}

/**
 * Stores what reading some receipts changed, in one transaction, unless another isolate has read them meanwhile: then nothing
 * is stored.
 */
export async function storeDetectorAdvance(db: Database, advance: DetectorAdvance): Promise<void> {
  const { model, fromCursorMs, throughMs, states, raised, ended, nowMs } = advance
  const isFirst = sql`coalesce((select through_ms from ${detectorCursors} where model = ${model}), 0) = ${fromCursorMs}`
  const parts: DetectorRow[][] = []
  for (let from = 0; from < states.length; from += STATES_PER_STATEMENT)
    parts.push(states.slice(from, from + STATES_PER_STATEMENT))
  const storeStates = parts.map((part) =>
    db
      .insert(detectorStates)
      .select(
        sql`select ${jsonColumns('model', 'domain', 'maskVersion', 'signal', 'requests', 'state', 'updatedAt')}
          from json_each(${JSON.stringify(part)}) where ${isFirst}`,
      )
      .onConflictDoUpdate({
        target: [
          detectorStates.model,
          detectorStates.domain,
          detectorStates.maskVersion,
          detectorStates.signal,
        ],
        set: {
          requests: sql`excluded.requests`,
          state: sql`excluded.state`,
          updatedAt: sql`excluded.updated_at`,
        },
      }),
  )
  const storeAlerts = db
    .insert(alerts)
    .select(
      sql`select ${jsonColumns('id', 'kind', 'model', 'subject', 'domain', 'maskVersion', 'nodeId', 'message', 'reference', 'level', 'raisedAt', 'endedAt')}
        from json_each(${JSON.stringify(raised)}) where ${isFirst}`,
    )
    .onConflictDoNothing()
  const storeEnds = db
    .update(alerts)
    .set({ endedAt: nowMs })
    .where(and(isAmong(alerts.id, ended), isNull(alerts.endedAt), isFirst))
  const storeCursor = db
    .insert(detectorCursors)
    .select(sql`select ${model}, ${throughMs} where ${isFirst}`)
    .onConflictDoUpdate({ target: detectorCursors.model, set: { throughMs: sql`excluded.through_ms` } })
  // Ends come first: an alert may end and another one of the same subject begin. The cursor comes last, since all depend on it.
  await db.batch([storeEnds, storeAlerts, ...storeStates, storeCursor])
}

/** Deletes detectors that have read nothing since a time. */
export async function deleteDetectorStates(db: Database, beforeMs: number): Promise<void> {
  await db.delete(detectorStates).where(lt(detectorStates.updatedAt, beforeMs))
}
