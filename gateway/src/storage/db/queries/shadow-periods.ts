import { sql, type SQL } from 'drizzle-orm'
import { toCamelCase, toSnakeCase } from 'drizzle-orm/casing'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import type { Database } from '../../../contracts/database.ts'
import { shadowPeriods } from '../schema/periods.ts'
import { addedColumns } from './added-columns.ts'
import { PERIOD_NAME } from './period-domains.ts'

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

/** A mask under which the outputs of another one are scored, and since when. */
export interface ShadowTrial {
  model: string
  shadowVersion: number
  maskVersion: number
  fromMs: number
}

/**
 * Returns a query of sums by model and domain of the scores of shadows since their times: of the scores themselves until the next full
 * minute, of minutes until the next full hour, and of hours. Unregistered domains are one.
 *
 * @param trials at most one of each model
 */
export function shadowSumsSince(trials: readonly ShadowTrial[]): SQL {
  const rows = trials.map((trial) => {
    const minute = Math.ceil(trial.fromMs / 60_000) * 60
    const hour = Math.ceil(minute / 3_600) * 3_600
    const ranges = [
      [60, minute, hour],
      [3_600, hour, Number.MAX_SAFE_INTEGER],
    ]
    return { ...trial, minute, ranges }
  })
  const columns = sql.raw(
    ['model', 'shadowVersion', 'maskVersion', 'fromMs', 'minute', 'ranges']
      .map((name) => `value ->> '${name}' ${toSnakeCase(name)}`)
      .join(', '),
  )
  const summed = sql.raw(SUMMED.join(', '))
  return sql`
    with trials as materialized (select ${columns} from json_each(${JSON.stringify(rows)})),
    counted as materialized (
      select model, domain from period_domains where model in (select model from trials)
      union select model, ${OTHER_DOMAINS} from trials
    ), parts as (
      select score.model, score.domain, 1 requests, ${summed} from trials
        cross join shadow_scores score on score.model = trials.model and score.shadow_version = trials.shadow_version
          and score.mask_version = trials.mask_version and score.created_at >= from_ms and score.created_at < minute * 1000
      union all
      select period.model, period.domain, requests, ${summed} from trials
        cross join counted on counted.model = trials.model
        cross join json_each(trials.ranges) range
        cross join shadow_periods period on period.model = trials.model and period.shadow_version = trials.shadow_version
          and period.mask_version = trials.mask_version and period.domain = counted.domain and period.width = range.value ->> 0
          and period.start >= range.value ->> 1 and period.start < range.value ->> 2
    )
    select model, iif(domain in (select name from domains), domain, ${OTHER_DOMAINS}) domain, sum(requests) requests, ${SUMS}
    from parts group by 1, 2 having sum(requests) > 0 order by 1, 2`
}
