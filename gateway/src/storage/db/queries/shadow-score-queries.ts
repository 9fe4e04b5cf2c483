import { getTableColumns, lt, sql } from 'drizzle-orm'
import { toSnakeCase } from 'drizzle-orm/casing'
import type { ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import type { Database } from '../../../contracts/database.ts'
import { shadowPeriods } from '../schema/periods.ts'
import { shadowScores } from '../schema/usage.ts'
import { trialsInForce } from '../trials-in-force.ts'
import { domainOf } from './found-domain-sql.ts'
import type { ModelRow } from './model-queries.ts'
import { namePeriodDomains } from './period-domains.ts'
import { jsonColumn } from './json-columns.ts'
import { incomingDomains } from './receipt-changes.ts'
import { addToShadowPeriods, scoreColumns, shadowSumsSince, type ShadowTrial } from './shadow-periods.ts'

/**
 * All columns of the scores in a JSON parameter, so that one statement stores any number of them. The domain is the one that was
 * found for the request, if there is one.
 */
const INCOMING_COLUMNS = Object.keys(getTableColumns(shadowScores)).map((name) => ({
  name,
  value: name === 'domain' ? domainOf(jsonColumn('requestId'), jsonColumn(name)) : jsonColumn(name),
}))

/** Stores scores, and counts them in periods; a repeated score is stored and counted once. */
export async function insertShadowScores(
  db: Database,
  scores: readonly (Omit<ShadowScore, 'attestation'> & { conversation?: number | undefined })[],
  nowMs: number,
): Promise<void> {
  if (scores.length === 0) return
  const rows = scores.map(
    ({
      requestId,
      shadowVersion,
      model,
      domain,
      maskVersion,
      prompt,
      answer,
      conversation,
    }): typeof shadowScores.$inferInsert => ({
      requestId,
      shadowVersion,
      model,
      domain,
      maskVersion,
      promptTokens: prompt.tokens,
      promptNll: prompt.nll,
      promptNllShadow: prompt.nllShadow,
      answerTokens: answer.tokens,
      answerNll: answer.nll,
      answerNllShadow: answer.nllShadow,
      createdAt: nowMs,
      conversation: conversation ?? null,
    }),
  )
  const json = JSON.stringify(rows)
  const columns = INCOMING_COLUMNS.map(({ name, value }) => sql`${value} ${sql.raw(toSnakeCase(name))}`)
  const added = sql`
    select 1 sign, 0 moved, ${scoreColumns()}
    from (select min(key), ${sql.join(columns, sql`, `)} from json_each(${json}) group by request_id, shadow_version) incoming
    where not exists (select 1 from shadow_scores known
      where known.request_id = incoming.request_id and known.shadow_version = incoming.shadow_version)`
  const store = db
    .insert(shadowScores)
    // Without `where`, SQLite parses the following `on conflict` as the condition of a join.
    .select(
      sql`select ${sql.join(
        INCOMING_COLUMNS.map(({ value }) => value),
        sql`, `,
      )} from json_each(${json}) where true`,
    )
    .onConflictDoNothing()
  // One transaction.
  await db.batch([namePeriodDomains(db, incomingDomains(json), nowMs), addToShadowPeriods(db, added), store])
}

/** The scores of one domain of a model; the losses are sums of nats over the tokens. */
export interface ShadowSum {
  model: string
  domain: string
  requests: number
  promptTokens: number
  promptNll: number
  promptNllShadow: number
  answerTokens: number
  answerNll: number
  answerNllShadow: number
}

/** Returns about when the score was stored after which `count` others were stored; undefined if there are fewer. */
export async function findScoreTime(db: Database, count: number): Promise<number | undefined> {
  const last = sql`(select max(rowid) from ${shadowScores})`
  const row = await db
    .select({ createdAt: shadowScores.createdAt })
    .from(shadowScores)
    .where(sql`rowid <= ${last} - ${count}`)
    .orderBy(sql`rowid desc`)
    .limit(1)
    .get()
  return row?.createdAt
}

/** Deletes at most `limit` scores from before a time. @returns how many */
export async function deleteShadowScores(db: Database, beforeMs: number, limit: number): Promise<number> {
  const old = sql`(select rowid from ${shadowScores} where ${shadowScores.createdAt} < ${beforeMs} limit ${limit})`
  const { meta } = await db.delete(shadowScores).where(sql`rowid in ${old}`)
  return meta.changes
}

/** Deletes periods of scores that began before a time. */
export async function deleteShadowPeriods(db: Database, beforeMs: number): Promise<void> {
  await db.delete(shadowPeriods).where(lt(shadowPeriods.start, Math.floor(beforeMs / 1000)))
}

/** Returns the sums of the scores of the shadows of some models since they began, by model and domain. By one statement. */
export async function sumShadowScores(db: Database, models: readonly ModelRow[]): Promise<ShadowSum[]> {
  const trials = models.flatMap((model): ShadowTrial[] => {
    const { shadow } = trialsInForce(model)
    if (!shadow) return []
    const { version: shadowVersion, sinceMs: fromMs } = shadow
    return [{ model: model.id, shadowVersion, maskVersion: model.activeVersion, fromMs }]
  })
  return trials.length === 0 ? [] : db.all<ShadowSum>(shadowSumsSince(trials))
}
