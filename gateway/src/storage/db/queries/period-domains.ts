import { sql, type SQL } from 'drizzle-orm'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import type { Database } from '../../../contracts/database.ts'
import { periodDomains } from '../schema/periods.ts'
import { NAMED_DOMAINS } from './usage-total-queries.ts'

/**
 * The name under which periods count a row of `changed`, which has the columns `sign` and `moved`: the one that its domain had when
 * the row was stored. What moves to another domain takes the name of now, because it never moves again.
 */
export const PERIOD_NAME = sql`iif(exists (
          select 1 from period_domains known
          where known.model = changed.model and known.domain = changed.domain
            and (known.since <= changed.created_at or (moved and sign > 0))
        ), domain, ${OTHER_DOMAINS})`

/** Returns a subquery of the names under which a model has periods, in its column `domain`. */
export const countedDomains = (model: string): SQL =>
  sql`(select domain from period_domains where model = ${model} union select ${OTHER_DOMAINS})`

/**
 * Gives domains a name in the periods if they are registered or among the first others of their model: for what is stored after
 * anything was counted under no name. Run it before `addChangesToPeriods`, in the same transaction.
 *
 * @param counted a query of the columns `model` and `domain`
 */
export function namePeriodDomains(db: Database, counted: SQL, nowMs: number) {
  const named = sql`
    with counted as (${counted}), wanted as (
      select model, domain, domain in (select name from domains) is_registered
      from (select distinct model, domain from counted) counted
      where not exists (
        select 1 from period_domains known where known.model = counted.model and known.domain = counted.domain)
    ), ranked as (
      select *, dense_rank() over (partition by model, is_registered order by domain) place from wanted
    ), decided as (
      select *, is_registered or place + (
        select count(*) from period_domains known
        where known.model = ranked.model and known.domain <> ${OTHER_DOMAINS}
          and known.domain not in (select name from domains)
      ) <= ${NAMED_DOMAINS} is_named
      from ranked
    )
    select model, domain, coalesce((
        select since + 1 from period_domains other where other.model = decided.model and other.domain = ${OTHER_DOMAINS}
      ), 0)
    from decided where is_named
    union all
    select distinct model, ${OTHER_DOMAINS}, ${nowMs} from decided where not is_named`
  return db
    .insert(periodDomains)
    .select(named)
    .onConflictDoUpdate({
      target: [periodDomains.model, periodDomains.domain],
      set: { since: sql`max(since, excluded.since)` },
    })
}
