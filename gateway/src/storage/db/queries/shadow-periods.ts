import { sql, type SQL } from 'drizzle-orm'
import { toCamelCase } from 'drizzle-orm/casing'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import type { Database } from '../../../contracts/database.ts'
import { shadowPeriods } from '../schema/periods.ts'
import { addedColumns } from './added-columns.ts'
import { countedDomains, PERIOD_NAME } from './period-domains.ts'

/** Widths of the periods of scores, seconds: sums since a time need the minutes of its hour, and then hours. */
const WIDTHS = [60, 3_600]

/** The summed columns, which scores have under the same names. */
const SUMMED = [
  'prompt_tokens',
  'prompt_nll',
  'prompt_nll_shadow',
  'answer_tokens',
  'answer_nll',
  'answer_nll_shadow',
]
const SIGNED = sql.raw(SUMMED.map((column) => `sum(sign * ${column})`).join(', '))
const SUMS = sql.raw(SUMMED.map((column) => `sum(${column}) ${toCamelCase(column)}`).join(', '))

/** Returns the columns of the rows that {@link addToShadowPeriods} takes, beside `sign` and `moved`. */
export const scoreColumns = (domain = 'domain'): SQL =>
  sql.raw(['model', domain, 'shadow_version', 'mask_version', 'created_at', ...SUMMED].join(', '))

/**
 * Adds scores to the periods of their times, under the names that their domains have in the periods of receipts. Run it before
 * the scores are stored or moved, in the same transaction.
 *
 * @param changed a query of `sign`, `moved` and the columns of {@link scoreColumns}
 */
export function addToShadowPeriods(db: Database, changed: SQL) {
  const added = sql`
    with changed as (${changed}), named as (select *, ${PERIOD_NAME} name from changed)
    select model, shadow_version, mask_version, name, value, created_at / 1000 / value * value, sum(sign), ${SIGNED}
    from named, json_each(${JSON.stringify(WIDTHS)}) group by 1, 2, 3, 4, 5, 6`
  const { model, shadowVersion, maskVersion, domain, width, start } = shadowPeriods
  return db
    .insert(shadowPeriods)
    .select(added)
    .onConflictDoUpdate({
      target: [model, shadowVersion, maskVersion, domain, width, start],
      set: addedColumns(['requests', ...SUMMED.map(toCamelCase)]),
    })
}

/**
 * Returns a query of sums by domain of the scores of one mask's outputs under another since a time: of the scores themselves until
 * the next full minute, of minutes until the next full hour, and of hours. Unregistered domains are one.
 */
export function shadowSumsSince(
  { model, shadowVersion, maskVersion }: { model: string; shadowVersion: number; maskVersion: number },
  fromMs: number,
): SQL {
  const minute = Math.ceil(fromMs / 60_000) * 60
  const hour = Math.ceil(minute / 3_600) * 3_600
  const ranges = JSON.stringify([
    [60, minute, hour],
    [3_600, hour, Number.MAX_SAFE_INTEGER],
  ])
  const summed = sql.raw(SUMMED.join(', '))
  return sql`
    with parts as (
      select domain, 1 requests, ${summed} from shadow_scores
      where model = ${model} and shadow_version = ${shadowVersion} and mask_version = ${maskVersion}
        and created_at >= ${fromMs} and created_at < ${minute * 1000}
      union all
      select period.domain, requests, ${summed} from json_each(${ranges}) range
        cross join ${countedDomains(model)} counted
        cross join shadow_periods period on period.model = ${model} and period.shadow_version = ${shadowVersion}
          and period.mask_version = ${maskVersion} and period.domain = counted.domain and period.width = range.value ->> 0
          and period.start >= range.value ->> 1 and period.start < range.value ->> 2
    )
    select iif(domain in (select name from domains), domain, ${OTHER_DOMAINS}) domain, sum(requests) requests, ${SUMS}
    from parts group by 1 having sum(requests) > 0 order by 1`
}
