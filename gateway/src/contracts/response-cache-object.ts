/** An answer as its node gave it. */
export interface CachedResponse {
  body: Uint8Array<ArrayBuffer>
  contentType: string
  maskVersion: number
  /** The node that gave it. */
  nodeId: string
}

/** A {@link CachedResponse} that was found. */
export interface FoundResponse extends CachedResponse {
  ageMs: number
}

/** Why whoever made an answer gives none. */
export type LeaveReason = 'failed' | 'left' | 'whole'

/** Requests that asked for a kept answer, since the beginning. */
export interface CacheCounts {
  hits: number
  misses: number
}

/** What a look-up finds: the answer, or whether whoever asks is to make it, because nobody does already. */
export type CacheLookup = { found: FoundResponse } | { found?: undefined; makes: boolean }

/** What a tenant's cache holds and did. */
export interface CacheStats extends CacheCounts {
  answers: number
  bytes: number
}

/** The Durable Object that keeps the responses of one tenant. Implemented by `inference/cache/response-cache.ts`. */
export interface ResponseCacheObject extends Rpc.DurableObjectBranded {
  /**
   * The answer of a key, if there is one that is no older than `maxAgeMs`. Without one, the request that asks makes it
   * and says what became of it by {@link keep} or {@link leave}, or {@link follow}s who makes it already.
   */
  look(key: string, maxAgeMs: number, requestId: string): CacheLookup

  /** Waits for the answer that another request makes, or made since; undefined when this one is to make its own. */
  follow(key: string, maxAgeMs: number, requestId: string): Promise<FoundResponse | undefined>

  /** Nothing more comes of a request that made an answer, or waited for one. */
  leave(key: string, requestId: string, how: LeaveReason): void

  /** Keeps an answer for `ttlMs`, and gives it to who waits for it. */
  keep(key: string, answer: CachedResponse, ttlMs: number): Promise<void>

  /**
   * Deletes every answer.
   *
   * @returns how many there were.
   */
  clear(): number

  /** What the cache holds and did. */
  stats(): CacheStats
}
