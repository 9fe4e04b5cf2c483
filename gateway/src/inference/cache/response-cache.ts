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

const BOUNDS = { bytes: 64 * 1024 * 1024, answers: 20_000, answerBytes: MAX_CACHED_RESPONSE_BYTES }
/** What is over is not found any more; it is deleted together with others. */
const SWEEP_MS = 60_000
/** Counts are stored, and told to D1 for `/metrics`, so much later, for many requests at once. */
const SAVE_MS = 2_000
const COUNTS_KEY = 'counts'

/**
 * Keeps one tenant's answers. Each tenant has an object of its own: its answers, its room and its time are nobody
 * else's, so nothing of them shows in another's, not even by how long a look-up takes.
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

  look(key: string, maxAgeMs: number, requestId: string): CacheLookup {
    const found = this.#store.find(key, maxAgeMs, Date.now())
    const makes = !found && this.#flights.lead(key, requestId)
    if (found || makes) this.#count(found)
    return found ? { found } : { makes }
  }

  async follow(key: string, maxAgeMs: number, requestId: string): Promise<FoundResponse | undefined> {
    const found = this.#store.find(key, maxAgeMs, Date.now()) ?? (await this.#flights.follow(key, requestId))
    this.#count(found)
    return found
  }

  leave(key: string, requestId: string, how: LeaveReason): void {
    this.#flights.leave(key, requestId, how)
  }

  async keep(key: string, answer: CachedResponse, ttlMs: number): Promise<void> {
    this.#store.keep(key, answer, ttlMs, Date.now())
    this.#flights.landed(key, { ...answer, ageMs: 0 })
    this.#saveCounts()
    await this.#schedule()
  }

  stats(): CacheStats {
    this.#store.expire(Date.now())
    return { ...this.#counts, answers: this.#store.answers, bytes: this.#store.bytes }
  }

  clear(): number {
    const { answers } = this.stats()
    this.#store.clear()
    this.#saveCounts()
    return answers
  }

  /** Deletes the answers whose time is over. */
  override async alarm(): Promise<void> {
    this.#store.expire(Date.now())
    this.#saveCounts()
    await this.#schedule()
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
      this.#tellCounts().catch((error: unknown) =>
        console.error('What a response cache did is told later:', error),
      )
    }, SAVE_MS)
  }

  async #tellCounts(): Promise<void> {
    const { name } = this.ctx.id
    if (name !== undefined) await putCacheCounts(openDatabase(this.env.DB), name, this.stats())
  }

  async #schedule(): Promise<void> {
    const nextMs = this.#store.nextExpiryMs()
    if (nextMs === undefined) return
    const dueMs = Math.max(nextMs, Date.now() + SWEEP_MS)
    const setMs = await this.ctx.storage.getAlarm()
    if (setMs === null || dueMs < setMs) await this.ctx.storage.setAlarm(dueMs)
  }
}
