import { and, eq, gt, ne, sql, sum, type SQL } from 'drizzle-orm'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import type { Database } from '../../../contracts/database.ts'
import { usageTotals } from '../schema/usage.ts'
import { addedColumns } from './added-columns.ts'
import { isAmong } from './is-among.ts'

/** Unregistered domains of a tenant on a model that totals count by name: the first ones. */
export const NAMED_DOMAINS = 64

/** The finish reason of a request whose lease expired, until its receipt arrives. */
export const ESTIMATED = 'estimated'

/**
 * The finish reason of what corrects sums that must not fall: negative where a receipt was counted that is of another domain, or of an
 * attempt that was superseded, and positive under the domain that was found.
 */
export const MOVED = 'moved'

/** The columns that add up. */
export const USAGE_SUMS = [
  'requests',
  'promptTokens',
  'completionTokens',
  'driftRequests',
  'driftTokens',
  'nllMasked',
  'nllDense',
] as const

/**
 * Adds the rows of a common table expression `changed`, which has the columns of those in `receipt-changes.ts`, to the totals. Run it
 * before the receipts are stored, in the same transaction. Superseded attempts do not count. A trigger would do the same, but D1
 * does not apply triggers in migrations reliably (cloudflare/workers-sdk issues 4998 and 15178).
 *
 * Domains are counted by name if they are registered or among the first of their tenant; the others are counted together.
 */
export function addChangesToTotals(db: Database, changes: SQL) {
  const counted = sql`
    with recursive ${changes}, owned as (
      select changed.*, coalesce(tenant, '') tenant, domain in (select name from domains) or exists (
        select 1 from usage_totals old
        where old.tenant = coalesce(api_keys.tenant, '') and old.model = changed.model and old.domain = changed.domain
      ) is_named, case when moved then ${MOVED} when estimated then ${ESTIMATED} else finish_reason end outcome
      from changed left join api_keys on api_keys.id = key_id
      where finish_reason <> 'superseded'
    ), walked(tenant, model, domain, place) as (
      select tenant, model, ${nextDomain(sql`unnamed`)}, 1
      from (select distinct tenant, model from owned where not is_named) unnamed
      union all
      select tenant, model, ${nextDomain(sql`walked`, sql`and domain > walked.domain`)}, place + 1
      from walked where domain is not null and place <= ${NAMED_DOMAINS}
    ), names as (
      select tenant, model, count(*) number from walked where domain <> ${OTHER_DOMAINS} group by tenant, model
    ), named as (
      select owned.*, case
        when is_named or coalesce(number, 0) + dense_rank() over (
          partition by owned.tenant, owned.model, is_named order by domain
        ) <= ${NAMED_DOMAINS} then domain else ${OTHER_DOMAINS} end name
      from owned left join names using (tenant, model)
    )
    select tenant, model, name, mask_version, outcome,
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
      set: addedColumns(USAGE_SUMS),
    })
}

/**
 * Returns the first domain that a tenant has on a model: the domains are walked from one to the next, because counting them
 * otherwise reads the rows of every mask.
 */
function nextDomain(of: SQL, after = sql``): SQL {
  return sql`(select min(domain) from usage_totals where tenant = ${of}.tenant and model = ${of}.model ${after})`
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

/** Returns the drift sums of a model, or of some of its masks alone: one row per domain and mask version. */
export async function sumDrift(
  db: Database,
  of: { model: string; versions?: readonly number[] },
): Promise<DriftSum[]> {
  const { model, domain, maskVersion, driftRequests, driftTokens, nllMasked, nllDense } = usageTotals
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
    .where(and(ne(driftRequests, 0), eq(model, of.model), of.versions && isAmong(maskVersion, of.versions)))
    .groupBy(model, domain, maskVersion)
    .having(gt(requests, 0))
    .orderBy(model, domain, maskVersion)
}
