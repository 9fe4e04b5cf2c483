/** How much a request reserves, and when a limit rejects it: pure functions of the usage of its accounts. */
import type { LimitedAccount, Limits } from '../../contracts/limits.ts'
import type { LimitRejection, Rate, Rates, ReservationRequest, Unit } from '../../contracts/reservation.ts'
import type { Account } from './account.ts'

/** The tokens reserved for an output without a client's bound; it gets no more than these. */
export const DEFAULT_COMPLETION_TOKENS = 4_096
/** The minimum of that reservation: with fewer tokens left, the request is rejected instead of being cut short. */
export const MIN_COMPLETION_TOKENS = 256
/** The longest retry time while running requests may return reserved usage. */
export const IN_FLIGHT_MS = 2_000

/** A limited account with its usage. */
export type OpenedAccount = LimitedAccount & { account: Account }

/** Returns the tokens to reserve, and the bound of the output if the client sets none. */
export function sizeReservation(
  request: ReservationRequest,
  accounts: readonly OpenedAccount[],
  nowMs: number,
): { tokens: number; maxTokens: number | null } {
  const { promptTokens, contextLength = Infinity, choices = 1 } = request
  const reserve = (completion: number) => Math.max(promptTokens, mostTokens(request, completion))
  if (request.maxTokens !== null) return { tokens: reserve(request.maxTokens), maxTokens: null }
  const maxCompletion = Math.min(DEFAULT_COMPLETION_TOKENS, contextLength)
  const remaining = accounts.flatMap(({ limits, account: { minute, spent, reserved } }) => {
    const { tokensPerMinute = Infinity, tokensPerMonth = Infinity } = limits
    return [tokensPerMinute - minute.used('tokens', nowMs), tokensPerMonth - spent - reserved]
  })
  const left = Math.min(...remaining)
  if (left === Infinity) return { tokens: reserve(maxCompletion), maxTokens: null }
  const room = Math.floor((left - promptTokens) / choices)
  const completion = Math.max(Math.min(maxCompletion, MIN_COMPLETION_TOKENS), Math.min(maxCompletion, room))
  return { tokens: reserve(completion), maxTokens: completion }
}

/**
 * Returns the most tokens that a request uses whose prompt has at most the estimated tokens and whose output is bounded. In another
 * script a prompt may have a third of them, and then the context has room for more output, of each choice.
 */
function mostTokens(
  { promptTokens, prompts = 1, choices = 1, contextLength = Infinity }: ReservationRequest,
  completion: number,
): number {
  // Longer prompts shorten the output. With several choices that takes more from the output than it adds to the prompt.
  const unshortened = Math.max(0, contextLength - completion)
  return Math.min(promptTokens, prompts * unshortened) + choices * Math.min(completion, contextLength)
}

/** Returns the first limit of the accounts that a request of `tokens` would exceed; undefined if there is none. */
export function findRejection(
  accounts: readonly OpenedAccount[],
  tokens: number,
  nowMs: number,
): Omit<LimitRejection, 'rates'> | undefined {
  for (const { kind, limits, account } of accounts) {
    const reject = (
      limit: LimitRejection['limit'],
      allowed: number,
      used: number,
      needed: number,
      retryAfterMs: number | null,
    ) => ({ kind, limit, allowed, remaining: Math.max(0, allowed - used), needed, retryAfterMs })
    const { requestsPerMinute, tokensPerMinute, tokensPerMonth, concurrentRequests } = limits
    if (tokensPerMonth !== undefined && account.spent + account.reserved + tokens > tokensPerMonth) {
      const isLasting = account.spent + tokens > tokensPerMonth
      const used = isLasting ? account.spent : account.spent + account.reserved
      return reject('month', tokensPerMonth, used, tokens, isLasting ? null : IN_FLIGHT_MS)
    }
    if (concurrentRequests !== undefined && account.running >= concurrentRequests)
      return reject('concurrent', concurrentRequests, account.running, 1, IN_FLIGHT_MS)
    const requests = account.minute.used('requests', nowMs)
    if (requestsPerMinute !== undefined && requests + 1 > requestsPerMinute) {
      const excess = requests + 1 - requestsPerMinute
      return reject(
        'requests',
        requestsPerMinute,
        requests,
        1,
        account.minute.waitMs('requests', excess, nowMs),
      )
    }
    const used = account.minute.used('tokens', nowMs)
    if (tokensPerMinute !== undefined && used + tokens > tokensPerMinute) {
      const waitMs = account.minute.waitMs('tokens', used + tokens - tokensPerMinute, nowMs)
      const mayBeReturned = used - account.reserved + tokens <= tokensPerMinute
      const retryAfterMs = mayBeReturned ? Math.min(waitMs, IN_FLIGHT_MS) : waitMs
      return reject('tokens', tokensPerMinute, used, tokens, tokens > tokensPerMinute ? null : retryAfterMs)
    }
  }
  return undefined
}

/** Returns what is left of the tightest limits a minute. */
export function ratesOf(accounts: readonly OpenedAccount[], nowMs: number): Rates {
  const tightest = (unit: Unit, limitOf: (limits: Limits) => number | undefined): Rate | undefined =>
    accounts
      .flatMap(({ limits, account: { minute } }): Rate[] => {
        const limit = limitOf(limits)
        if (limit === undefined) return []
        const remaining = Math.max(0, limit - minute.used(unit, nowMs))
        return [{ limit, remaining, resetMs: minute.resetMs(unit, nowMs) }]
      })
      .reduce<Rate | undefined>((a, b) => (a && a.remaining <= b.remaining ? a : b), undefined)
  const requests = tightest('requests', (limits) => limits.requestsPerMinute)
  const tokens = tightest('tokens', (limits) => limits.tokensPerMinute)
  return { ...(requests ? { requests } : {}), ...(tokens ? { tokens } : {}) }
}
