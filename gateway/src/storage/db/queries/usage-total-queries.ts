import { and, eq, gt, sql, sum, type SQL } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { usageTotals } from '../schema.ts'

/**
 * Stands for the domains that have no name of their own in totals, and can be none of them. A request may name any, and
 * each would be a row for ever.
 */
export const OTHER_DOMAINS = '(other)'

/** Domains of a tenant on a model that have their names beside those that are registered: the first that come. */
export const NAMED_DOMAINS = 64

/** How a request ended of which no receipt has come yet. */
export const ESTIMATED = 'estimated'

/** A column of rows of receipts in a parameter, which is a JSON list of objects. */
export const column = (name: string): SQL => sql.raw(`json_extract(value, '$.${name}')`)

/**
 * What storing rows of receipts, which are in a parameter, will change of what is summed, as a table `changed` with a sign:
 * what is new is added, and what it takes the place of, an estimate, is taken away. Of rows of one request the first is
 * stored. A try that was superseded adds nothing: the one that followed it is the request.
 */
export const changed = (json: string): SQL => sql`
  incoming as (
    select min(key), ${column('requestId')} request_id, ${column('keyId')} key_id, ${column('model')} model,
      ${column('domain')} domain, ${column('maskVersion')} mask_version, ${column('finishReason')} finish_reason,
      ${column('promptTokens')} prompt_tokens, ${column('completionTokens')} completion_tokens,
      ${column('driftTokens')} drift_tokens, ${column('nllMasked')} nll_masked, ${column('nllDense')} nll_dense,
      ${column('estimated')} estimated, ${column('createdAt')} created_at
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
 * Adds to the totals what storing these rows will change: what is new, and what comes in place of an estimate. To be run
 * before they are stored, in one transaction with that. A trigger would do the same; how D1 takes those from a migration
 * is not to be relied on (cloudflare/workers-sdk issues 4998 and 15178).
 *
 * Domains are told by their names where they are registered or among the first of their tenant; the rest are one.
 */
export function countReceipts(db: Database, json: string) {
  const counted = sql`
    with ${changed(json)}, owned as (
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

/** Settled requests and their tokens, summed by everything that names them. */
export interface UsageSum {
  /** Null for requests from before receipts named their key. */
  tenant: string | null
  model: string
  domain: string
  maskVersion: number
  finishReason: (typeof usageTotals.$inferSelect)['finishReason']
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
