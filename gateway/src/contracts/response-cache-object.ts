/** A complete response of a node. */
export interface CachedResponse {
  body: Uint8Array<ArrayBuffer>
  contentType: string
  maskVersion: number
  /** The node that generated it. */
  nodeId: string
}

/** A {@link CachedResponse} that a lookup found. */
export interface FoundResponse extends CachedResponse {
  ageMs: number
}

/** The reason that a request ends without storing a response. */
export type LeaveReason = 'failed' | 'left' | 'whole'

/** Counts of all cache lookups ever made. */
export interface CacheCounts {
  hits: number
  misses: number
}

/** The result of a lookup: the cached response, or whether this request is the leader that must generate it. */
export type CacheLookup = { found: FoundResponse } | { found?: undefined; leads: boolean }

/** The size and the counts of a tenant's cache. */
export interface CacheStats extends CacheCounts {
  answers: number
  bytes: number
}

/** The Durable Object that caches the responses of one tenant. Implemented by `inference/cache/response-cache.ts`. */
export interface ResponseCacheObject extends Rpc.DurableObjectBranded {
  /**
   * Returns the response of a cache key if there is one that is no older than `maxAgeMs`. Otherwise the first request
   * becomes the leader: it generates the response and ends with {@link store} or {@link leave}. Later requests wait by
   * {@link awaitLeader}.
   */
  lookUp(key: string, maxAgeMs: number, requestId: string): CacheLookup

  /** Waits for the response of the leader; undefined if the request must generate its own. */
  awaitLeader(key: string, maxAgeMs: number, requestId: string): Promise<FoundResponse | undefined>

  /** Ends a request that led or waited and stores nothing. */
  leave(key: string, requestId: string, how: LeaveReason): void

  /** Stores a response for `ttlMs` and gives it to the requests that wait for it. */
  store(key: string, response: CachedResponse, ttlMs: number): Promise<void>

  /**
   * Deletes every response.
   *
   * @returns the number of deleted responses.
   */
  clear(): number

  /** Returns the size and the counts of the cache. */
  stats(): CacheStats
}
