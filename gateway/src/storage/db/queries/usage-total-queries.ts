import { and, eq, gt, ne, sql, sum, type SQL } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { usageTotals } from '../schema/usage.ts'
import { domainOf } from './found-domain-sql.ts'

/**
 * The name under which totals count all further domains; no domain can have it. Requests may name any domain, and each
 * would be a row for ever.
 */
export const OTHER_DOMAINS = '(other)'

/** Unregistered domains of a tenant on a model that totals count by name: the first ones. */
export const NAMED_DOMAINS = 64

/** The finish reason of a request whose lease expired, until its receipt arrives. */
export const ESTIMATED = 'estimated'

/**
 * The finish reason of sums that moved to another domain: negative under the one that the receipts were counted under, and
 * positive under the one that was found, so that over all domains they are zero.
 */
export const MOVED = 'moved'

/** Returns a column of the receipts in a parameter, which is a JSON list of objects. */
export const jsonColumn = (name: string): SQL => sql.raw(`json_extract(value, '$.${name}')`)

/**
 * Returns a common table expression `changed`: the changes of sums that storing the receipts in a parameter will cause. A
 * new receipt has sign 1, and an estimate that it replaces has sign -1. Of several rows of one request only the first is
 * stored. A superseded attempt changes nothing: the attempt after it counts.
 */
export const receiptChanges = (json: string): SQL => sql`
  incoming as (
    select min(key), ${jsonColumn('requestId')} request_id, ${jsonColumn('keyId')} key_id, ${jsonColumn('model')} model,
      ${domainOf(jsonColumn('requestId'), jsonColumn('domain'))} domain, ${jsonColumn('maskVersion')} mask_version, ${jsonColumn('finishReason')} finish_reason,
      ${jsonColumn('promptTokens')} prompt_tokens, ${jsonColumn('completionTokens')} completion_tokens,
      ${jsonColumn('driftTokens')} drift_tokens, ${jsonColumn('nllMasked')} nll_masked, ${jsonColumn('nllDense')} nll_dense,
      ${jsonColumn('estimated')} estimated, ${jsonColumn('createdAt')} created_at
    from json_each(${json}) group by request_id
  ), changed as (
    select 1 sign, coalesce(new.key_id, old.key_id) key_id, new.created_at, new.model, new.domain, new.mask_version,
      iif(new.estimated, ${ESTIMATED}, new.finish_reason) finish_reason, new.prompt_tokens, new.completion_tokens,
      new.drift_tokens, new.nll_masked, new.nll_dense
    from incoming new left join receipts old using (request_id)
    where new.finish_reason <> 'superseded' and (old.request_id is null or (old.estimated and not new.estimated))
    union all
    select -1, old.key_id, old.created_at, old.model, old.domain, old.mask_version,
      ${ESTIMATED}, old.prompt_tokens, old.completion_tokens, old.drift_tokens, old.nll_masked, old.nll_dense
    from receipts old join incoming new using (request_id)
    where old.estimated and not new.estimated
  )`

/**
 * Adds receipts to the totals, and subtracts the estimates that they replace. Run it before the receipts are stored, in the
 * same transaction. A trigger would do the same, but D1 does not apply triggers in migrations reliably
 * (cloudflare/workers-sdk issues 4998 and 15178).
 *
 * Domains are counted by name if they are registered or among the first of their tenant; the others are counted together.
 */
export function addToUsageTotals(db: Database, json: string) {
  return addChangesToTotals(db, receiptChanges(json))
}

/** Adds the rows of a common table expression `changed`, which has the columns of {@link receiptChanges}, to the totals. */
export function addChangesToTotals(db: Database, changes: SQL) {
  const counted = sql`
    with ${changes}, owned as (
      select changed.*, coalesce(tenant, '') tenant, domain in (select name from domains) or exists (
        select 1 from usage_totals old
        where old.tenant = coalesce(api_keys.tenant, '') and old.model = changed.model and old.domain = changed.domain
      ) is_named
      from changed left join api_keys on api_keys.id = key_id
    ), names as (
      select tenant, model, count(distinct domain) number from usage_totals
      where (tenant, model) in (select tenant, model from owned where not is_named) and domain <> ${OTHER_DOMAINS}
      group by tenant, model
    ), named as (
      select owned.*, case
        when is_named or coalesce(number, 0) + dense_rank() over (
          partition by owned.tenant, owned.model, is_named order by domain
        ) <= ${NAMED_DOMAINS} then domain else ${OTHER_DOMAINS} end name
      from owned left join names using (tenant, model)
    )
    select tenant, model, name, mask_version, finish_reason,
      sum(sign), sum(sign * prompt_tokens), sum(sign * completion_tokens), sum(sign * (drift_tokens is not null)),
      sum(sign * coalesce(drift_tokens, 0)), sum(sign * coalesce(nll_masked, 0)), sum(sign * coalesce(nll_dense, 0))
    from named
    group by 1, 2, 3, 4, 5`
  return db
    .insert(usageTotals)
    .select(counted)
    .onConflictDoUpdate({
      target: [
        usageTotals.tenant,
        usageTotals.model,
        usageTotals.domain,
        usageTotals.maskVersion,
        usageTotals.finishReason,
      ],
      set: {
        requests: sql`requests + excluded.requests`,
        promptTokens: sql`prompt_tokens + excluded.prompt_tokens`,
        completionTokens: sql`completion_tokens + excluded.completion_tokens`,
        driftRequests: sql`drift_requests + excluded.drift_requests`,
        driftTokens: sql`drift_tokens + excluded.drift_tokens`,
        nllMasked: sql`nll_masked + excluded.nll_masked`,
        nllDense: sql`nll_dense + excluded.nll_dense`,
      },
    })
}

/** Sums of settled requests and their tokens, by tenant, model, domain, mask version and finish reason. */
export interface UsageSum {
  /** Null for receipts that name no key. */
  tenant: string | null
  model: string
  domain: string
  maskVersion: number
  finishReason: (typeof usageTotals.$inferSelect)['finishReason']
  requests: number
  promptTokens: number
  completionTokens: number
}

/** Returns all usage ever settled, one row per tenant, model, domain, mask version and finish reason; of one tenant or all. */
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
    .where(and(ne(requests, 0), onlyTenant === undefined ? undefined : eq(tenant, onlyTenant)))
    .orderBy(tenant, model, domain, maskVersion, finishReason)
}

/** The loss by pruning on sampled traffic; the sums are nats over `tokens` tokens. */
export interface DriftSum {
  model: string
  domain: string
  maskVersion: number
  requests: number
  tokens: number
  nllMasked: number
  nllDense: number
}

/**
 * Returns drift sums, one row per model, domain and mask version; of one model or tenant, or of all.
 *
 * @param only.asSettled by the domains that requests were settled under, so that no sum ever falls
 */
export async function sumDrift(
  db: Database,
  only: { model?: string; tenant?: string; asSettled?: boolean } = {},
): Promise<DriftSum[]> {
  const { tenant, model, domain, maskVersion, driftRequests, driftTokens, nllMasked, nllDense } = usageTotals
  const requests = sum(driftRequests).mapWith(Number)
  return db
    .select({
      model,
      domain,
      maskVersion,
      requests,
      tokens: sum(driftTokens).mapWith(Number),
      nllMasked: sum(nllMasked).mapWith(Number),
      nllDense: sum(nllDense).mapWith(Number),
    })
    .from(usageTotals)
    .where(
      and(
        ne(driftRequests, 0),
        only.asSettled ? ne(usageTotals.finishReason, MOVED) : undefined,
        only.model === undefined ? undefined : eq(model, only.model),
        only.tenant === undefined ? undefined : eq(tenant, only.tenant),
      ),
    )
    .groupBy(model, domain, maskVersion)
    .having(gt(requests, 0))
    .orderBy(model, domain, maskVersion)
}
