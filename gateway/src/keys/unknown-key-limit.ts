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
const MAX_LOOKUPS_PER_ADDRESS = 2
/** How long a look-up waits for its turn, and how often it checks whether it is. */
const MAX_WAIT_MS = 5_000
const CHECK_MS = 5
/** Different keys of one address, and of all, that wait. */
const MAX_WAITING_PER_ADDRESS = 16
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
   * Looks up a key that was not verified before. Few are looked up at once; requests with the same key share the result.
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
  /** The keys that are looked up or wait for it, and their addresses. */
  const running = new Map<string, string>()
  const waiting = new Map<string, string>()

  const allowanceOf = ({ nowMs, unknownKeysPerMinute: limit }: LimitDeps, address: string): Allowance => {
    const known = allowances.get(address)
    const bucket = fillBucket(known, { perMinute: limit, burst: limit }, nowMs())
    return { ...bucket, refusedUntilMs: known?.refusedUntilMs ?? 0 }
  }

  /** Returns after how many milliseconds an address may send unknown keys again; 0 if it may now. */
  const waitMsOf = (deps: LimitDeps, address: string): number => {
    const { left, atMs, refusedUntilMs } = allowanceOf(deps, address)
    const perKeyMs = 60_000 / deps.unknownKeysPerMinute
    return Math.max(refusedUntilMs - atMs, (1 - left) * perKeyMs, 0)
  }

  const recordUnknown = async (deps: LimitDeps, digest: string, address: string): Promise<void> => {
    storeLatest(unknown, digest, deps.nowMs() + REMEMBER_MS, MAX_REMEMBERED)
    const { left, ...allowance } = allowanceOf(deps, address)
    storeLatest(allowances, address, { ...allowance, left: Math.max(0, left - 1) }, MAX_ADDRESSES)
    const edge = await deps.unknownKeyEdgeLimit?.limit({ key: address }).catch(() => undefined)
    if (edge && !edge.success)
      storeLatest(
        allowances,
        address,
        { ...allowanceOf(deps, address), refusedUntilMs: deps.nowMs() + EDGE_PERIOD_MS },
        MAX_ADDRESSES,
      )
  }

  const hasTurn = (digest: string, address: string) =>
    !running.has(digest) && running.size < MAX_LOOKUPS && countOf(running, address) < MAX_LOOKUPS_PER_ADDRESS

  return {
    async lookUp(deps, { digest, address, cached, find }) {
      const isLimited = deps.unknownKeysPerMinute > 0
      const startMs = deps.nowMs()
      for (;;) {
        const known = cached()
        if (known) return known
        if ((unknown.get(digest) ?? 0) > deps.nowMs()) return undefined
        const refusedMs = isLimited ? waitMsOf(deps, address) : 0
        if (refusedMs > 0) throw tooManyUnknown(refusedMs)
        if (hasTurn(digest, address)) break
        const isQueued = running.has(digest) || waiting.has(digest)
        const isFull = waiting.size >= MAX_WAITING || countOf(waiting, address) >= MAX_WAITING_PER_ADDRESS
        if ((!isQueued && isFull) || deps.nowMs() - startMs >= MAX_WAIT_MS) throw tooManyUnknown(1_000)
        if (!running.has(digest)) waiting.set(digest, address)
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

function countOf(keys: ReadonlyMap<string, string>, address: string): number {
  let count = 0
  for (const one of keys.values()) if (one === address) count += 1
  return count
}
