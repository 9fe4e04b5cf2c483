import { sql, type SQL } from 'drizzle-orm'
import { domainOf } from './found-domain-sql.ts'
import { jsonColumn } from './json-columns.ts'

/**
 * Whether a receipt in a parameter may be stored: not one of a request from before the horizon of which nothing is stored, because
 * it was counted before. Its request's time is that of the attestation, where this tells it.
 */
export const isCountable = sql`(
  coalesce(${jsonColumn('attestedAtMs')}, 9e15) >= coalesce((select before_ms from receipt_horizons), 0)
  or exists (select 1 from receipts where request_id = ${jsonColumn('requestId')}))`

/** Columns of receipts that sums are made of, besides the domain. */
const COUNTED = {
  keyId: 'key_id',
  createdAt: 'created_at',
  model: 'model',
  maskVersion: 'mask_version',
  finishReason: 'finish_reason',
  estimated: 'estimated',
  promptTokens: 'prompt_tokens',
  completionTokens: 'completion_tokens',
  timeToFirstTokenMs: 'time_to_first_token_ms',
  totalMs: 'total_ms',
  driftTokens: 'drift_tokens',
  nllMasked: 'nll_masked',
  nllDense: 'nll_dense',
  scoring: 'scoring',
  errorCode: 'error_code',
  namesWeights: 'names_weights',
}

const incomingColumns = sql.join(
  Object.entries(COUNTED).map(([name, column]) => sql`${jsonColumn(name)} ${sql.raw(column)}`),
  sql`, `,
)

/** The columns of a table of receipts, in order; some are other expressions. */
const columnsOf = (
  table: 'new' | 'old' | 'moving' | 'stored',
  expressions: Readonly<Record<string, string>> = {},
): SQL =>
  sql.raw(
    Object.values(COUNTED)
      .map((column) => expressions[column] ?? `${table}.${column}`)
      .join(', '),
  )

/** The finish reason of a receipt that replaces an estimate: an attempt that was superseded stays so, however late its receipt comes. */
export const finishReasonOf = (replacing: string, replaced: string): string =>
  `iif(${replaced}.finish_reason = 'superseded', 'superseded', ${replacing}.finish_reason)`

/** The tokens of a receipt that replaces an estimate: none if the estimate has none, because the client got no output. */
export const tokensOf = (
  column: 'prompt_tokens' | 'completion_tokens',
  replacing: string,
  replaced: string,
): string => `iif(${replaced}.prompt_tokens + ${replaced}.completion_tokens = 0, 0, ${replacing}.${column})`

/** The columns of `changed`, in the order of the selections below. */
const CHANGED = sql.raw(`changed(sign, moved, domain, ${Object.values(COUNTED).join(', ')})`)

/**
 * Returns a common table expression `changed`: the changes of sums that storing the receipts in a parameter will cause. A
 * new receipt has sign 1, and an estimate that it replaces has sign -1. Of several rows of one request only the first is
 * stored. A superseded attempt is a change of its own, for the counts of such attempts: the attempt after it counts.
 */
export const receiptChanges = (json: string): SQL => sql`
  incoming as (
    select min(key), ${jsonColumn('requestId')} request_id,
      ${domainOf(jsonColumn('requestId'), jsonColumn('domain'))} domain, ${incomingColumns}
    from json_each(${json}) where ${isCountable} group by request_id
  ), ${CHANGED} as (
    select 1, 0, new.domain, ${columnsOf('new', {
      key_id: 'coalesce(new.key_id, old.key_id)',
      finish_reason: finishReasonOf('new', 'old'),
      prompt_tokens: tokensOf('prompt_tokens', 'new', 'old'),
      completion_tokens: tokensOf('completion_tokens', 'new', 'old'),
    })}
    from incoming new left join receipts old using (request_id)
    where old.request_id is null or (old.estimated and not new.estimated)
    union all
    select -1, 0, old.domain, ${columnsOf('old')}
    from receipts old join incoming new using (request_id)
    where old.estimated and not new.estimated
  )`

/** Returns a query of the models and domains of the receipts in a parameter, counted before or not. */
export const incomingDomains = (json: string): SQL => sql`
  select ${jsonColumn('model')} model, ${domainOf(jsonColumn('requestId'), jsonColumn('domain'))} domain
  from json_each(${json})`

/**
 * Returns a common table expression `changed`: receipts that move to another domain. Each has sign -1 under its own domain and
 * sign 1 under the one that was found.
 *
 * @param moving a query of receipts, with a column `found`
 */
export const movedReceipts = (moving: SQL): SQL => sql`
  moving as (${moving}), ${CHANGED} as (
    select -1, 1, moving.domain, ${columnsOf('moving')} from moving
    union all
    select 1, 1, moving.found, ${columnsOf('moving')} from moving
  )`

/** Whether a receipt is of one of the attempts in a parameter. */
const isOf = (attemptIds: string): SQL => sql`request_id in (select value from json_each(${attemptIds}))`

/**
 * Returns a common table expression `changed`: the receipts of attempts, which were counted, become those of superseded ones. Each has
 * sign -1 with its finish reason, and sign 1 as superseded.
 *
 * @param attemptIds as JSON
 */
export const supersededChanges = (attemptIds: string): SQL => {
  const superseded = columnsOf('stored', { finish_reason: `'superseded'` })
  return sql`
  stored as (select * from receipts where ${isOf(attemptIds)} and finish_reason <> 'superseded'), ${CHANGED} as (
    select -1, not estimated, stored.domain, ${columnsOf('stored')} from stored
    union all
    select 1, not estimated, stored.domain, ${superseded} from stored
  )`
}

/**
 * Returns a common table expression `changed`: the receipts of attempts become those of requests without tokens, and one that was
 * superseded counts, as an error. Nothing changes where it is one already.
 *
 * @param attemptIds as JSON
 */
export const undeliveredChanges = (attemptIds: string): SQL => {
  const counted = `finish_reason <> 'superseded'`
  const undelivered = columnsOf('stored', {
    finish_reason: undeliveredReason('stored'),
    prompt_tokens: '0',
    completion_tokens: '0',
  })
  return sql`
  stored as (
    select *, ${sql.raw(`not estimated and ${counted}`)} moved from receipts
    where ${isOf(attemptIds)} and (prompt_tokens + completion_tokens > 0 or finish_reason = 'superseded')
  ), ${CHANGED} as (
    select -1, moved, stored.domain, ${columnsOf('stored')} from stored
    union all
    select 1, moved, stored.domain, ${undelivered} from stored
  )`
}

/** The finish reason of an attempt that was the last one of its request. */
export const undeliveredReason = (table: string): string =>
  `iif(${table}.finish_reason = 'superseded', 'error', ${table}.finish_reason)`
