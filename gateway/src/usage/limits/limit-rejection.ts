import { AppError } from '@copal/shared/errors.ts'
import { monthStartMs } from '../../runtime/month.ts'
import type { Rate, Rates, LimitRejection } from '../../contracts/reservation.ts'

/** OpenAI's `x-ratelimit-*` headers, of the limits that there are. */
export function rateHeaders(rates: Rates): Record<string, string> {
  const of = (unit: string, rate: Rate | undefined): Record<string, string> =>
    rate
      ? {
          [`x-ratelimit-limit-${unit}`]: String(rate.limit),
          [`x-ratelimit-remaining-${unit}`]: String(rate.remaining),
          [`x-ratelimit-reset-${unit}`]: formatReset(rate.resetMs),
        }
      : {}
  return { ...of('requests', rates.requests), ...of('tokens', rates.tokens) }
}

/** Headers of a refusal; OpenAI's clients do not try again where it would be in vain. */
export function limitHeaders(refusal: LimitRejection): Record<string, string> {
  return {
    ...rateHeaders(refusal.rates),
    ...(refusal.retryAfterMs === null ? { 'x-should-retry': 'false' } : {}),
  }
}

/** What a client is told whose request is over a limit. */
export function limitError(refusal: LimitRejection, nowMs: number): AppError {
  const { limit, most, remaining, wanted, retryAfterMs } = refusal
  const who = refusal.kind === 'key' ? 'This key' : "This key's tenant"
  const retryAfterS = retryAfterMs === null ? undefined : Math.max(1, Math.ceil(retryAfterMs / 1000))
  const options = retryAfterS === undefined ? {} : { retryAfterS }
  const again = retryAfterS === undefined ? '' : ` Try again in ${retryAfterS} s.`
  switch (limit) {
    case 'requests':
      return new AppError(
        'rate_limit_exceeded',
        `${who} may send ${most} requests a minute.${again}`,
        options,
      )
    case 'concurrent':
      return new AppError(
        'rate_limit_exceeded',
        `${who} has ${most} requests running, as many as it may. Try again when one of them has ended.`,
        options,
      )
    case 'tokens': {
      const needs = `This request may use ${wanted} tokens, prompt and answer together`
      return new AppError(
        'rate_limit_exceeded',
        retryAfterMs === null
          ? `${needs}; ${lower(who)} may use ${most} a minute. Lower 'max_tokens', or shorten the prompt.`
          : `${needs}; of ${most} a minute, ${lower(who)} has ${remaining} left.${again} Or lower 'max_tokens'.`,
        options,
      )
    }
    case 'month': {
      const needs = `of ${most} tokens a month, ${lower(who)} has ${remaining} left, and this request may use ${wanted}`
      if (retryAfterMs !== null) {
        return new AppError(
          'rate_limit_exceeded',
          `With the requests that are running, ${needs}.${again} Or lower 'max_tokens'.`,
          options,
        )
      }
      const renewed = monthStartMs(nowMs, 1)
      return new AppError(
        'insufficient_quota',
        `The budget is used up: ${needs}. It is renewed at ${new Date(renewed).toISOString()}.`,
        { retryAfterS: Math.ceil((renewed - nowMs) / 1000) },
      )
    }
  }
}

/** `120ms`, `6.5s`, `1m0s`: as OpenAI writes it. */
function formatReset(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`
  const seconds = Math.ceil(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
}

function lower(who: string): string {
  return who.replace(/^T/, 't')
}
