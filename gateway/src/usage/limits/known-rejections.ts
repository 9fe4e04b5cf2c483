import type { RejectionCount } from '../../contracts/fleet-object.ts'
import type { KnownRejections, MeteredSize } from '../../contracts/known-rejections.ts'
import type { LimitRejection } from '../../contracts/reservation.ts'
import { accountId } from '../../fleet/ledger/account.ts'
import { IN_FLIGHT_MS } from '../../fleet/ledger/reservation-rules.ts'
import { monthStartMs } from '../../runtime/month.ts'
import { storeLatest } from '../../runtime/bounded-map.ts'

/**
 * How long a rejection holds for what may be given back: tokens a minute second by second, and requests a minute by those that
 * get no node.
 */
const RETURNED_MS = 1_000
/** Accounts whose last rejection is known; beyond it the oldest is forgotten. */
const MAX_ACCOUNTS = 4_096
/** Counts of rejected requests that wait for the next call of the fleet. */
const MAX_COUNTS = 1_024

interface Known {
  rejection: LimitRejection
  size: MeteredSize
  /** The limits that rejected; others have not. */
  limits: string
  atMs: number
  untilMs: number
}

/**
 * Creates the rejections that an isolate knows.
 *
 * A key at its limit is rejected here, so that it costs the Fleet object a request a second. Only the fleet decides; its
 * rejection is remembered while it certainly holds for requests that are at least as large: a used-up month until it ends,
 * and for a second requests a minute, and tokens a minute where running requests cannot give back enough. The number of
 * concurrent requests can fall at any time and is never remembered. No rejection outlives the trust in the key, with which
 * changed limits arrive; other limits ask the fleet.
 */
export function createKnownRejections(): KnownRejections {
  const known = new Map<string, Known>()
  const counts = new Map<string, RejectionCount>()

  const count = ({ tenant, model }: MeteredSize, reason: LimitRejection['limit']): void => {
    const key = JSON.stringify([tenant, model, reason])
    const { requests } = counts.get(key) ?? { requests: 0 }
    if (requests === 0 && counts.size >= MAX_COUNTS) return
    counts.set(key, { tenant, model, reason, requests: requests + 1 })
  }

  return {
    find(accounts, size, nowMs) {
      for (const account of accounts) {
        const id = accountId(account)
        const found = known.get(id)
        if (!found) continue
        if (nowMs >= found.untilMs || found.limits !== JSON.stringify(account.limits)) known.delete(id)
        else if (isAtLeast(size, found.size)) {
          count(size, found.rejection.limit)
          return agedBy(found.rejection, nowMs - found.atMs)
        }
      }
      return undefined
    },
    record(accounts, size, rejection, { nowMs, trustMs }) {
      const account = accounts.find(({ kind }) => kind === rejection.kind)
      const holdsMs = account ? Math.min(trustMs, holdsForMs(rejection, nowMs)) : 0
      if (!account || holdsMs <= 0) return
      const limits = JSON.stringify(account.limits)
      const entry = { rejection, size, limits, atMs: nowMs, untilMs: nowMs + holdsMs }
      storeLatest(known, accountId(account), entry, MAX_ACCOUNTS)
    },
    takeCounts() {
      const taken = [...counts.values()]
      counts.clear()
      return taken
    },
  }
}

/** Returns how long a rejection certainly holds for a request of its size. */
function holdsForMs({ limit, retryAfterMs }: LimitRejection, nowMs: number): number {
  switch (limit) {
    case 'requests':
      return Math.min(retryAfterMs ?? 0, RETURNED_MS)
    case 'tokens':
      if (retryAfterMs === null) return Infinity
      // Otherwise a request that ends may give back enough at any time.
      return retryAfterMs > IN_FLIGHT_MS ? RETURNED_MS : 0
    case 'month':
      return retryAfterMs === null ? monthStartMs(nowMs, 1) - nowMs : 0
    case 'concurrent':
      return 0
  }
}

/** Returns whether a request reserves at least as many tokens as another. */
function isAtLeast(one: MeteredSize, other: MeteredSize): boolean {
  const isBound = one.maxTokens === other.maxTokens || (one.maxTokens ?? 0) > (other.maxTokens ?? Infinity)
  return (
    isBound &&
    one.model === other.model &&
    one.promptTokens >= other.promptTokens &&
    (one.prompts ?? 1) === (other.prompts ?? 1) &&
    (one.choices ?? 1) >= (other.choices ?? 1)
  )
}

function agedBy(rejection: LimitRejection, ageMs: number): LimitRejection {
  const { retryAfterMs, rates } = rejection
  const age = <T extends { resetMs: number }>(rate: T): T => ({
    ...rate,
    resetMs: Math.max(0, rate.resetMs - ageMs),
  })
  return {
    ...rejection,
    retryAfterMs: retryAfterMs === null ? null : Math.max(0, retryAfterMs - ageMs),
    rates: {
      ...(rates.requests ? { requests: age(rates.requests) } : {}),
      ...(rates.tokens ? { tokens: age(rates.tokens) } : {}),
    },
  }
}
