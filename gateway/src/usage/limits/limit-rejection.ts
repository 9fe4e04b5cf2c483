import { AppError } from '@copal/shared/errors.ts'
import { monthStartMs } from '../../runtime/month.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'
import type { Rate, Rates, LimitRejection } from '../../contracts/reservation.ts'

/** Returns OpenAI's `x-ratelimit-*` headers for the limits that exist. */
export function rateHeaders(rates: Rates): Record<string, string> {
  const headersOf = (unit: string, rate: Rate | undefined): Record<string, string> =>
    rate
      ? {
          [`x-ratelimit-limit-${unit}`]: String(rate.limit),
          [`x-ratelimit-remaining-${unit}`]: String(rate.remaining),
          [`x-ratelimit-reset-${unit}`]: formatReset(rate.resetMs),
        }
      : {}
  return { ...headersOf('requests', rates.requests), ...headersOf('tokens', rates.tokens) }
}

/** Returns the headers of a rejection; `x-should-retry` stops OpenAI's clients from retrying in vain. */
export function limitHeaders(rejection: LimitRejection): Record<string, string> {
  return {
    ...rateHeaders(rejection.rates),
    ...(rejection.retryAfterMs === null ? { 'x-should-retry': 'false' } : {}),
  }
}

/** Creates the error of a request that exceeds a limit. */
export function limitError(rejection: LimitRejection, nowMs: number): AppError {
  const { limit, allowed, remaining, needed, retryAfterMs } = rejection
  const owner = rejection.kind === 'key' ? 'This key' : "This key's tenant"
  const retryAfterS = retryAfterMs === null ? undefined : retryAfterSeconds(retryAfterMs)
  const options = retryAfterS === undefined ? {} : { retryAfterS }
  const retryHint = retryAfterS === undefined ? '' : ` Try again in ${retryAfterS} s.`
  switch (limit) {
    case 'requests':
      return new AppError(
        'rate_limit_exceeded',
        `${owner} may send ${allowed} requests a minute.${retryHint}`,
        options,
      )
    case 'concurrent':
      return new AppError(
        'rate_limit_exceeded',
        `${owner} has ${allowed} requests running, its maximum. Try again when one of them has ended.`,
        options,
      )
    case 'tokens': {
      const needs = `This request may use ${needed} tokens, prompt and output together`
      return new AppError(
        'rate_limit_exceeded',
        retryAfterMs === null
          ? `${needs}; ${lowerCaseStart(owner)} may use ${allowed} a minute. Lower 'max_tokens', or shorten the prompt.`
          : `${needs}; of ${allowed} a minute, ${lowerCaseStart(owner)} has ${remaining} left.${retryHint} Or lower 'max_tokens'.`,
        options,
      )
    }
    case 'month': {
      const needs = `of ${allowed} tokens a month, ${lowerCaseStart(owner)} has ${remaining} left, and this request may use ${needed}`
      if (retryAfterMs !== null) {
        return new AppError(
          'rate_limit_exceeded',
          `With the requests that are running, ${needs}.${retryHint} Or lower 'max_tokens'.`,
          options,
        )
      }
      const renewed = monthStartMs(nowMs, 1)
      return new AppError(
        'insufficient_quota',
        `The budget is used up: ${needs}. It is renewed at ${new Date(renewed).toISOString()}.`,
        // Not shortened: 'x-should-retry' keeps OpenAI's clients from trying again, and others shall not try before.
        { retryAfterS: Math.ceil((renewed - nowMs) / 1000) },
      )
    }
  }
}

/** Formats a duration as OpenAI does: `120ms`, `6s`, `1m0s`. */
function formatReset(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`
  const seconds = Math.ceil(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
}

function lowerCaseStart(owner: string): string {
  return owner.replace(/^T/, 't')
}
