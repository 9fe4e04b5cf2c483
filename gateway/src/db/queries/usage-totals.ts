import { and, eq, gt, sql, sum } from 'drizzle-orm'
import type { Receipt } from '@copal/shared/wire/node-rpc.ts'
import type { Database } from '../database.ts'
import { usageTotals } from '../schema.ts'

/** Settled requests and their tokens, summed by everything that names them. */
export interface UsageSum {
  /** Null for requests from before receipts named their key. */
  tenant: string | null
  model: string
  domain: string
  maskVersion: number
  finishReason: Receipt['finishReason']
  requests: number
  promptTokens: number
  completionTokens: number
}

/** Usage since the beginning, one row a (tenant, model, domain, mask version, finish reason); of one tenant, or of all. */
export async function sumUsage(db: Database, onlyTenant?: string): Promise<UsageSum[]> {
  const { tenant, model, domain, maskVersion, finishReason, ...sums } = usageTotals
  const { requests, promptTokens, completionTokens } = sums
  return db
    .select({
      tenant: sql<string | null>`nullif(${tenant}, '')`,
      model,
      domain,
      maskVersion,
      finishReason,
      requests,
      promptTokens,
      completionTokens,
    })
    .from(usageTotals)
    .where(and(gt(requests, 0), onlyTenant === undefined ? undefined : eq(tenant, onlyTenant)))
    .orderBy(tenant, model, domain, maskVersion, finishReason)
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

/** Drift sums, one row a (model, domain, mask version); of one model or tenant, or of all. */
export async function sumDrift(
  db: Database,
  only: { model?: string; tenant?: string } = {},
): Promise<DriftSum[]> {
  const { tenant, model, domain, maskVersion, driftRequests, driftTokens, nllMasked, nllDense } = usageTotals
  return db
    .select({
      model,
      domain,
      maskVersion,
      requests: sum(driftRequests).mapWith(Number),
      tokens: sum(driftTokens).mapWith(Number),
      nllMasked: sum(nllMasked).mapWith(Number),
      nllDense: sum(nllDense).mapWith(Number),
    })
    .from(usageTotals)
    .where(
      and(
        gt(driftRequests, 0),
        only.model === undefined ? undefined : eq(model, only.model),
        only.tenant === undefined ? undefined : eq(tenant, only.tenant),
      ),
    )
    .groupBy(model, domain, maskVersion)
    .orderBy(model, domain, maskVersion)
}
