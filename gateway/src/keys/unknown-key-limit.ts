import { AppError } from '@copal/shared/errors.ts'
import type { Deps } from '../contracts/bindings.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'
import { storeLatest } from '../runtime/bounded-map.ts'
import { fillBucket, type TokenBucket } from '../runtime/token-bucket.ts'

/** How long an unknown key is refused from memory. Short, so that a key that is created meanwhile works within seconds. */
const REMEMBER_MS = 5_000
const MAX_REMEMBERED = 4_096
/** Look-ups at once of keys that this isolate has not verified before, in all and of one address. */
const MAX_LOOKUPS = 8
const MAX_LOOKUPS_PER_ADDRESS = 4
/** How long a look-up waits for its turn, and how often it checks whether it is. */
const MAX_WAIT_MS = 5_000
const CHECK_MS = 5
/** Different keys that wait. */
const MAX_WAITING = 256
/** Addresses that sent unknown keys, the latest. */
const MAX_ADDRESSES = 4_096
/** How long an address is refused after Cloudflare's limit was exceeded; the shortest period that it can have. */
const EDGE_PERIOD_MS = 10_000

/** The dependencies of {@link UnknownKeyLimit.lookUp}. */
type LimitDeps = Pick<Deps, 'nowMs' | 'unknownKeysPerMinute' | 'unknownKeyEdgeLimit'>

/** A key to look up that was not verified before. */
export interface UnverifiedKey<T> {
  digest: string
  /** Where the request comes from, see {@link clientNetwork}. */
  address: string
  /** Returns the key if it has become known meanwhile. */
  cached: () => T | undefined
  /** Looks the key up in the database. */
  find: () => Promise<T | undefined>
}

/** Bounds what requests with unknown keys cost. One exists for each isolate. */
export interface UnknownKeyLimit {
  /**
   * Looks up a key that was not verified before. Few are looked up at once; requests with the same key share the result. An event
   * that calls this must go on if its client disconnects: a look-up that never ended would keep its turn.
   *
   * @returns undefined if the key is unknown, from memory for some seconds
   * @throws AppError `rate_limit_exceeded` if the address has sent too many unknown keys, or too many keys wait
   */
  lookUp<T>(deps: LimitDeps, key: UnverifiedKey<T>): Promise<T | undefined>
}

/** The unknown keys that an address has left. */
interface Allowance extends TokenBucket {
  /** Cloudflare's limit refused the address until then. */
  refusedUntilMs: number
}

/** Creates a limit that has seen no key. */
export function createUnknownKeyLimit(): UnknownKeyLimit {
  /** Unknown keys by digest, and until when they are refused; the oldest first. */
  const unknown = new Map<string, number>()
  const allowances = new Map<string, Allowance>()
  /** The keys that are looked up, and their addresses. */
  const running = new Map<string, string>()
  const waiting = new Set<string>()

  const allowanceOf = (deps: LimitDeps, address: string): Allowance => {
    const known = allowances.get(address)
    const limit = deps.unknownKeysPerMinute
    const bucket = fillBucket(known, { perMinute: limit, burst: limit }, deps.nowMs())
    return { ...bucket, refusedUntilMs: known?.refusedUntilMs ?? 0 }
  }

  /**
   * Returns how many keys of an address may be looked up at once.
   *
   * @throws AppError `rate_limit_exceeded` if none may
   */
  const lookUpsOf = (deps: LimitDeps, address: string): number => {
    if (deps.unknownKeysPerMinute === 0) return MAX_LOOKUPS_PER_ADDRESS
    const { left, atMs, refusedUntilMs } = allowanceOf(deps, address)
    const waitMs = Math.max(refusedUntilMs - atMs, ((1 - left) * 60_000) / deps.unknownKeysPerMinute)
    if (waitMs > 0) throw tooManyUnknown(waitMs)
    return Math.min(MAX_LOOKUPS_PER_ADDRESS, Math.floor(left))
  }

  const recordUnknown = async (deps: LimitDeps, digest: string, address: string): Promise<void> => {
    storeLatest(unknown, digest, deps.nowMs() + REMEMBER_MS, MAX_REMEMBERED)
    const { left, ...allowance } = allowanceOf(deps, address)
    storeLatest(allowances, address, { ...allowance, left: Math.max(0, left - 1) }, MAX_ADDRESSES)
    const edge = await deps.unknownKeyEdgeLimit?.limit({ key: address }).catch(() => undefined)
    if (edge?.success !== false) return
    const refusedUntilMs = deps.nowMs() + EDGE_PERIOD_MS
    storeLatest(allowances, address, { ...allowanceOf(deps, address), refusedUntilMs }, MAX_ADDRESSES)
  }

  const hasTurn = (digest: string, address: string, allowed: number): boolean =>
    !running.has(digest) &&
    running.size < MAX_LOOKUPS &&
    [...running.values()].filter((other) => other === address).length < allowed

  return {
    async lookUp(deps, { digest, address, cached, find }) {
      const untilMs = deps.nowMs() + MAX_WAIT_MS
      for (;;) {
        const known = cached()
        if (known) return known
        const nowMs = deps.nowMs()
        if ((unknown.get(digest) ?? 0) > nowMs) return undefined
        if (hasTurn(digest, address, lookUpsOf(deps, address))) break
        const mayWait = running.has(digest) || waiting.has(digest) || waiting.size < MAX_WAITING
        if (nowMs >= untilMs || !mayWait) throw tooManyUnknown(1_000)
        waiting.add(digest)
        await new Promise((resolve) => setTimeout(resolve, CHECK_MS))
        waiting.delete(digest)
      }
      running.set(digest, address)
      try {
        const found = await find()
        if (!found) await recordUnknown(deps, digest, address)
        return found
      } finally {
        running.delete(digest)
      }
    },
  }
}

/**
 * Returns the network of a client: its IPv4 address, or the /64 of its IPv6 address, in which a client can take any
 * address. Without the header, which Cloudflare and the local runtime
 * set, all clients are one network.
 */
export function clientNetwork(connectingIp: string | undefined): string {
  const address = connectingIp?.toLowerCase() ?? ''
  if (!address.includes(':') || address.includes('.')) return address
  const [start = '', end] = address.split('::')
  const before = start.split(':').filter((group) => group !== '')
  const after = end === undefined ? [] : end.split(':').filter((group) => group !== '')
  const zeros = Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0')
  return `${[...before, ...zeros, ...after].slice(0, 4).join(':')}::/64`
}

function tooManyUnknown(waitMs: number): AppError {
  const retryAfterS = retryAfterSeconds(waitMs)
  return new AppError(
    'rate_limit_exceeded',
    `Too many unknown API keys were sent from this network address. Check the key, and try again in ${retryAfterS} s. ` +
      'Keys that are in use here go on working.',
    { retryAfterS },
  )
}
