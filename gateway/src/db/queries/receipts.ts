import { count, eq, isNotNull, sql, sum, and } from 'drizzle-orm'
import type { Receipt } from '@copal/shared/wire/node-rpc.ts'
import type { Database } from '../database.ts'
import { receipts } from '../schema.ts'

/** 15 columns a row, at most 100 bound parameters a statement. */
const ROWS_PER_STATEMENT = 6

/**
 * Settles requests: each receipt is stored once, whatever comes again for its request id is ignored.
 *
 * @returns how many were new.
 */
export async function insertReceipts(
  db: Database,
  nodeId: string,
  batch: readonly Receipt[],
  nowMs: number,
): Promise<number> {
  const rows = batch.map(({ drift, ...receipt }) => ({
    ...receipt,
    nodeId,
    driftTokens: drift?.tokens ?? null,
    nllMasked: drift?.nllMasked ?? null,
    nllDense: drift?.nllDense ?? null,
    createdAt: nowMs,
  }))
  const insert = (from: number) =>
    db
      .insert(receipts)
      .values(rows.slice(from, from + ROWS_PER_STATEMENT))
      .onConflictDoNothing()
  if (rows.length === 0) return 0
  const rest = []
  for (let from = ROWS_PER_STATEMENT; from < rows.length; from += ROWS_PER_STATEMENT) rest.push(insert(from))
  const results = await db.batch([insert(0), ...rest])
  return results.reduce((total, result) => total + result.meta.changes, 0)
}

/** Settled requests and their tokens, summed by everything that names them. */
export interface UsageSum {
  model: string
  domain: string
  maskVersion: number
  finishReason: Receipt['finishReason']
  requests: number
  promptTokens: number
  completionTokens: number
}

/** Usage since the beginning, one row a (model, domain, mask version, finish reason). */
export async function sumUsage(db: Database): Promise<UsageSum[]> {
  const { model, domain, maskVersion, finishReason, promptTokens, completionTokens } = receipts
  return db
    .select({
      model,
      domain,
      maskVersion,
      finishReason,
      requests: count(),
      promptTokens: sum(promptTokens).mapWith(Number),
      completionTokens: sum(completionTokens).mapWith(Number),
    })
    .from(receipts)
    .groupBy(model, domain, maskVersion, finishReason)
    .orderBy(model, domain, maskVersion, finishReason)
}

/** What pruning cost on sampled traffic; the sums are nats over `tokens` tokens. */
export interface DriftSum {
  model: string
  domain: string
  maskVersion: number
  requests: number
  tokens: number
  nllMasked: number
  nllDense: number
}

/** Drift sums, one row a (model, domain, mask version); of one model, or of all. */
export async function sumDrift(db: Database, onlyModel?: string): Promise<DriftSum[]> {
  const { model, domain, maskVersion, driftTokens, nllMasked, nllDense } = receipts
  return db
    .select({
      model,
      domain,
      maskVersion,
      requests: count(),
      tokens: sum(driftTokens).mapWith(Number),
      nllMasked: sql`sum(${nllMasked})`.mapWith(Number),
      nllDense: sql`sum(${nllDense})`.mapWith(Number),
    })
    .from(receipts)
    .where(and(isNotNull(driftTokens), onlyModel === undefined ? undefined : eq(model, onlyModel)))
    .groupBy(model, domain, maskVersion)
    .orderBy(model, domain, maskVersion)
}
