/** The requests that a trial is judged by, and their sums by conversation. */
import { and, asc, between, eq, gt, sql, type SQL } from 'drizzle-orm'
import type { ErrorCode } from '@copal/shared/errors.ts'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import type { Database } from '../../../contracts/database.ts'
import { shadowScores } from '../schema/usage.ts'

/** The prompt of a request that was scored under the active mask and under a shadow; losses are sums of nats. */
export interface ScoredPrompt {
  /** A request of which none is known is a conversation of its own. */
  conversation: string | number
  tokens: number
  nll: number
  nllShadow: number
  /** Unix milliseconds. */
  createdAt: number
}

/** Returns the first scored prompts of a shadow beside a mask in a time, oldest first. */
export async function listScoredPrompts(
  db: Database,
  versions: { model: string; shadowVersion: number; maskVersion: number },
  { fromMs, untilMs }: { fromMs: number; untilMs: number },
  limit: number,
): Promise<ScoredPrompt[]> {
  const { conversation, model, shadowVersion, maskVersion, promptTokens, createdAt, requestId } = shadowScores
  return db
    .select({
      conversation: sql<string | number>`coalesce(${conversation}, ${requestId})`,
      tokens: promptTokens,
      nll: shadowScores.promptNll,
      nllShadow: shadowScores.promptNllShadow,
      createdAt,
    })
    .from(shadowScores)
    .where(
      and(
        eq(model, versions.model),
        eq(shadowVersion, versions.shadowVersion),
        eq(maskVersion, versions.maskVersion),
        between(createdAt, fromMs, untilMs),
        gt(promptTokens, 0),
      ),
    )
    .orderBy(asc(createdAt), asc(requestId))
    .limit(limit)
}

/** Sums of the gaps of scored prompts by conversation, see `GapSums` of the trial judge. */
export type GapRow = Record<'count' | 'sum' | 'squares' | 'requests' | 'tokens', number> & {
  domain: string | null
}

/**
 * Sums the gaps of the first scored prompts of a shadow beside a mask since a time, by domain in the order in which they appeared. The
 * first row, without a domain, has those of all.
 *
 * @param judged the one of the two masks that is judged: the gap is its loss minus that of the other
 * @param bounds bounds of a gap, nats a token, where those of all are summed and where those of a domain are; a gap is counted as a
 * number from 0 to 1, which stand for the bounds
 */
export async function sumGaps(
  db: Database,
  versions: { model: string; shadowVersion: number; maskVersion: number },
  { fromMs, limit, judged }: { fromMs: number; limit: number; judged: 'mask' | 'shadow' },
  bounds: { all: number; domain: number },
): Promise<GapRow[]> {
  const [minuend, subtrahend] =
    judged === 'mask' ? ['prompt_nll', 'prompt_nll_shadow'] : ['prompt_nll_shadow', 'prompt_nll']
  const gap = sql.raw(`(${minuend} - ${subtrahend}) / prompt_tokens gap`)
  const sums = sql.raw(
    'count(*) "count", sum(value) "sum", sum(value * value) squares, sum(requests) requests, sum(tokens) tokens',
  )
  const ofConversation = (most: number) =>
    sql.raw(
      `avg((max(${-most}, min(${most}, gap)) + ${most}) / ${2 * most}) value, count(*) requests, sum(tokens) tokens, ` +
        'min(created_at) first_at, min(request_id) first_id',
    )
  return db.all<GapRow>(sql`
    with scored as materialized (
      select iif(domain in (select name from domains), domain, ${OTHER_DOMAINS}) domain,
        coalesce(conversation, request_id) conversation, request_id, prompt_tokens tokens, created_at, ${gap}
      from shadow_scores
      where model = ${versions.model} and shadow_version = ${versions.shadowVersion}
        and mask_version = ${versions.maskVersion} and created_at >= ${fromMs} and prompt_tokens > 0
      order by created_at, request_id limit ${limit})
    select domain, "count", "sum", squares, requests, tokens from (
      select 0 place, null domain, ${sums}, 0 first_at, '' first_id
      from (select ${ofConversation(bounds.all)} from scored group by conversation) having count(*) > 0
      union all
      select 1, domain, ${sums}, min(first_at), min(first_id)
      from (select domain, ${ofConversation(bounds.domain)} from scored group by domain, conversation) group by domain)
    order by place, first_at, first_id`)
}

/**
 * Errors that weights can cause: values that are not finite, and errors whose cause is unknown. The others have causes that are no
 * fault of the weights: the node was stopped, it lost a process or its GPU, its memory did not suffice, a deadline passed.
 *
 * An error without a code counts too: it is of an older node, whose receipts do not say why a request failed.
 */
const ERRORS_OF_WEIGHTS: readonly ErrorCode[] = ['invalid_output', 'internal_error']

/** Requests under the reference before times are judged. */
const MIN_TIMED_REQUESTS = 20
/** A time is slow above this multiple of the mean under the reference, and above these milliseconds. */
const SLOW = { ratio: 2, firstTokenMs: 200, tokenMs: 50 } as const

/** The attempts of one mask that are compared. */
export interface AttemptSpan {
  maskVersion: number
  fromMs: number
  untilMs?: number
  limit: number
  /** Which ones are taken of more than `limit`. */
  take: 'first' | 'last'
}

/** Sums of what happened to the attempts of a side, by conversation; see `AttemptSums` of the trial judge. */
export type AttemptRow = { side: 'judged' | 'reference' } & Record<
  `${'failed' | 'slowFirst' | 'slowTokens'}${'Count' | 'Sum' | 'Squares'}`,
  number
>

/**
 * Sums what happened to the attempts of two masks, each conversation with the share of its attempts. Attempts whose request was invalid
 * or named its weights say nothing about the mask. Those whose client left have not failed, but their times count, and those without a
 * token by the time that the client waited: the slower a mask is, the more clients leave.
 *
 * @param onlyOfWeights leaves out failures that weights cannot cause: attempts with another error than {@link ERRORS_OF_WEIGHTS},
 * those that another attempt superseded, and those whose node never reported their end. A broken connection, or a node that is
 * stopped or crashes, fails attempts whatever their mask
 * @param sameTime compares only attempts of the time in which both masks have attempts that were read: from the later of their first
 * ones until the first of those lists ends that have their limit. What fails or slows all nodes at another time would count for one
 * mask alone
 */
export async function sumAttempts(
  db: Database,
  model: string,
  { judged, reference }: Record<'judged' | 'reference', AttemptSpan>,
  { onlyOfWeights, sameTime }: { onlyOfWeights: boolean; sameTime: boolean },
): Promise<AttemptRow[]> {
  const codes = JSON.stringify(ERRORS_OF_WEIGHTS)
  const ofWeights = onlyOfWeights
    ? sql`and finish_reason <> 'superseded' and estimated = 0 and (finish_reason <> 'error' or error_code is null
        or error_code in (select value from json_each(${codes})))`
    : sql``
  const attemptsOf = ({ maskVersion, fromMs, untilMs, limit, take }: AttemptSpan): SQL => {
    const order = sql.raw(take === 'first' ? 'asc' : 'desc')
    return sql`
      select coalesce(conversation, request_id) conversation, created_at,
        iif(finish_reason = 'cancelled', null, finish_reason in ('error', 'superseded')) failed,
        coalesce(time_to_first_token_ms, iif(finish_reason = 'cancelled', total_ms, null)) first_ms,
        iif(completion_tokens < 2, null, (total_ms - time_to_first_token_ms) / (completion_tokens - 1)) token_ms
      from receipts
      where model = ${model} and mask_version = ${maskVersion} and finish_reason <> 'refused'
        and names_weights is not 1 ${ofWeights}
        and created_at >= ${fromMs} ${untilMs === undefined ? sql`` : sql`and created_at < ${untilMs}`}
      order by created_at ${order}, request_id ${order} limit ${limit}`
  }
  const endOf = (side: 'judged' | 'reference', { limit }: AttemptSpan) => {
    const table = sql.raw(side)
    return sql`(select iif(count(*) < ${limit}, 9e15, max(created_at)) from ${table})`
  }
  const span = sameTime
    ? sql`select max((select min(created_at) from judged), (select min(created_at) from reference)) from_ms,
        min(${endOf('judged', judged)}, ${endOf('reference', reference)}) until_ms`
    : sql`select 0 from_ms, 9e15 until_ms`
  const slowAbove = (time: 'first_ms' | 'token_ms', leastMs: number) => {
    const column = sql.raw(time)
    return sql`iif(count(${column}) < ${MIN_TIMED_REQUESTS}, null, max(${leastMs}, ${SLOW.ratio} * avg(${column}))) ${column}`
  }
  const sumsOf = (column: string, name: string) =>
    sql.raw(
      `count(${column}) ${name}Count, total(${column}) ${name}Sum, total(${column} * ${column}) ${name}Squares`,
    )
  return db.all<AttemptRow>(sql`
    with judged as materialized (${attemptsOf(judged)}), reference as materialized (${attemptsOf(reference)}),
      span as materialized (${span}),
      attempts as materialized (
        select sided.* from (select 'judged' side, * from judged union all select 'reference', * from reference) sided, span
        where created_at between from_ms and until_ms),
      slow as materialized (
        select ${slowAbove('first_ms', SLOW.firstTokenMs)}, ${slowAbove('token_ms', SLOW.tokenMs)}
        from attempts where side = 'reference'),
      conversations as (
        select side, avg(failed) failed, avg(attempts.first_ms > slow.first_ms) slow_first,
          avg(attempts.token_ms > slow.token_ms) slow_tokens
        from attempts, slow group by side, conversation)
    select side, ${sumsOf('failed', 'failed')}, ${sumsOf('slow_first', 'slowFirst')}, ${sumsOf('slow_tokens', 'slowTokens')}
    from conversations group by side`)
}
