import { and, count, eq, gte, lt, sql, sum } from 'drizzle-orm'
import type { ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import type { Database } from '../../../contracts/database.ts'
import { shadowScores } from '../schema/usage.ts'
import { domainOf } from './found-domain-sql.ts'
import { OTHER_DOMAINS } from './usage-total-queries.ts'
import type { ModelRow } from './model-queries.ts'
import type { StoredTrial } from '../../../contracts/trial.ts'

/** 12 columns per row and the request id three times, at most 100 bound parameters per statement. */
const ROWS_PER_STATEMENT = 6

/** Stores scores; a repeated score is stored once. */
export async function insertShadowScores(
  db: Database,
  scores: readonly Omit<ShadowScore, 'attestation'>[],
  nowMs: number,
): Promise<void> {
  const rows = scores.map(({ requestId, shadowVersion, model, domain, maskVersion, prompt, answer }) => ({
    requestId,
    shadowVersion,
    model,
    domain: domainOf(sql`${requestId}`, sql`${domain}`),
    maskVersion,
    promptTokens: prompt.tokens,
    promptNll: prompt.nll,
    promptNllShadow: prompt.nllShadow,
    answerTokens: answer.tokens,
    answerNll: answer.nll,
    answerNllShadow: answer.nllShadow,
    createdAt: nowMs,
  }))
  const insert = (from: number) =>
    db
      .insert(shadowScores)
      .values(rows.slice(from, from + ROWS_PER_STATEMENT))
      .onConflictDoNothing()
  if (rows.length === 0) return
  const rest = []
  for (let from = ROWS_PER_STATEMENT; from < rows.length; from += ROWS_PER_STATEMENT) rest.push(insert(from))
  await db.batch([insert(0), ...rest])
}

/** The scores of one domain; the losses are sums of nats over the tokens. */
export interface ShadowSum {
  domain: string
  requests: number
  promptTokens: number
  promptNll: number
  promptNllShadow: number
  answerTokens: number
  answerNll: number
  answerNllShadow: number
}

/** Returns the scores of one mask's outputs under another since a time, by domain; unregistered domains are one. */
async function sumShadowScores(
  db: Database,
  versions: { model: string; shadowVersion: number; maskVersion: number },
  fromMs: number,
): Promise<ShadowSum[]> {
  const { domain: named, ...columns } = shadowScores
  const domain = sql<string>`iif(${named} in (select name from domains), ${named}, ${OTHER_DOMAINS})`
  return db
    .select({
      domain,
      requests: count(),
      promptTokens: sum(columns.promptTokens).mapWith(Number),
      promptNll: sum(columns.promptNll).mapWith(Number),
      promptNllShadow: sum(columns.promptNllShadow).mapWith(Number),
      answerTokens: sum(columns.answerTokens).mapWith(Number),
      answerNll: sum(columns.answerNll).mapWith(Number),
      answerNllShadow: sum(columns.answerNllShadow).mapWith(Number),
    })
    .from(shadowScores)
    .where(
      and(
        eq(columns.model, versions.model),
        eq(columns.shadowVersion, versions.shadowVersion),
        eq(columns.maskVersion, versions.maskVersion),
        gte(columns.createdAt, fromMs),
      ),
    )
    .groupBy(domain)
    .orderBy(domain)
}

/** Deletes scores from before a time. */
export async function deleteShadowScores(db: Database, beforeMs: number): Promise<void> {
  await db.delete(shadowScores).where(lt(shadowScores.createdAt, beforeMs))
}

/** Returns the scores of a shadow, by domain. */
export function sumTrialScores(db: Database, model: ModelRow, shadow: StoredTrial): Promise<ShadowSum[]> {
  const versions = {
    model: model.id,
    shadowVersion: shadow.version,
    maskVersion: model.activeVersion,
  }
  return sumShadowScores(db, versions, shadow.sinceMs)
}
