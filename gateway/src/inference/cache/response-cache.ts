import { DurableObject } from 'cloudflare:workers'
import { MAX_CACHED_RESPONSE_BYTES } from '@copal/shared/wire/receipts.ts'
import { openDatabase } from '../../storage/db/open-database.ts'
import { putCacheCounts } from '../../storage/db/queries/cache-count-queries.ts'
import type { Bindings } from '../../contracts/bindings.ts'
import { CacheStore } from './cache-store.ts'
import type {
  ResponseCacheObject,
  CachedResponse,
  FoundResponse,
  LeaveReason,
  CacheCounts,
  CacheLookup,
  CacheStats,
} from '../../contracts/response-cache-object.ts'
import { SingleFlight } from './single-flight.ts'

const BOUNDS = { bytes: 64 * 1024 * 1024, responses: 20_000, responseBytes: MAX_CACHED_RESPONSE_BYTES }
/** Minimum time between two deletions of expired responses, which are not found any more anyway. */
const MIN_SWEEP_DELAY_MS = 60_000
/** Delay after which counts are stored, and written to D1 for `/metrics`, for many requests at once. */
const SAVE_DELAY_MS = 2_000
const COUNTS_KEY = 'counts'

/**
 * The response cache of one tenant. Each tenant has an object of its own, so that no tenant can learn about the
 * responses, the size or the load of another's cache, not even from how long a look-up takes.
 */
export class ResponseCache extends DurableObject<Bindings> implements ResponseCacheObject {
  readonly #store: CacheStore
  readonly #flights = new SingleFlight<FoundResponse>()
  #counts: CacheCounts = { hits: 0, misses: 0 }
  #saveScheduled = false

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#store = new CacheStore(ctx.storage, BOUNDS)
    void ctx.blockConcurrencyWhile(async () => {
      this.#counts = (await ctx.storage.get<CacheCounts>(COUNTS_KEY)) ?? this.#counts
    })
  }

  lookUp(key: string, maxAgeMs: number, requestId: string): CacheLookup {
    const found = this.#store.find(key, maxAgeMs, Date.now())
    const leads = !found && this.#flights.lead(key, requestId)
    if (found || leads) this.#count(found)
    return found ? { found } : { leads }
  }

  async awaitLeader(key: string, maxAgeMs: number, requestId: string): Promise<FoundResponse | undefined> {
    const found = this.#store.find(key, maxAgeMs, Date.now()) ?? (await this.#flights.follow(key, requestId))
    this.#count(found)
    return found
  }

  leave(key: string, requestId: string, how: LeaveReason): void {
    this.#flights.leave(key, requestId, how)
  }

  async store(key: string, response: CachedResponse, ttlMs: number): Promise<void> {
    this.#store.store(key, response, ttlMs, Date.now())
    this.#flights.complete(key, { ...response, ageMs: 0 })
    this.#saveCounts()
    await this.#scheduleExpiry()
  }

  stats(): CacheStats {
    this.#store.expire(Date.now())
    return { ...this.#counts, answers: this.#store.responses, bytes: this.#store.bytes }
  }

  clear(): number {
    const { answers } = this.stats()
    this.#store.clear()
    this.#saveCounts()
    return answers
  }

  /** Deletes the expired responses. */
  override async alarm(): Promise<void> {
    this.#store.expire(Date.now())
    this.#saveCounts()
    await this.#scheduleExpiry()
  }

  #count(found: FoundResponse | undefined): void {
    this.#counts[found ? 'hits' : 'misses'] += 1
    this.#saveCounts()
  }

  #saveCounts(): void {
    if (this.#saveScheduled) return
    this.#saveScheduled = true
    setTimeout(() => {
      this.#saveScheduled = false
      void this.ctx.storage.put(COUNTS_KEY, this.#counts, { allowUnconfirmed: true })
      this.#publishCounts().catch((error: unknown) =>
        console.error(
          'The counts of a response cache could not be written to D1; the next save retries:',
          error,
        ),
      )
    }, SAVE_DELAY_MS)
  }

  async #publishCounts(): Promise<void> {
    const { name } = this.ctx.id
    if (name !== undefined) await putCacheCounts(openDatabase(this.env.DB), name, this.stats())
  }

  async #scheduleExpiry(): Promise<void> {
    const nextMs = this.#store.nextExpiryMs()
    if (nextMs === undefined) return
    const dueMs = Math.max(nextMs, Date.now() + MIN_SWEEP_DELAY_MS)
    const setMs = await this.ctx.storage.getAlarm()
    if (setMs === null || dueMs < setMs) await this.ctx.storage.setAlarm(dueMs)
  }
}
