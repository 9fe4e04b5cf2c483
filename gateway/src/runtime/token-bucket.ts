/** The requests that a caller may still send at once, and when they were counted, in Unix milliseconds. */
export interface TokenBucket {
  left: number
  atMs: number
}

/** The rate at which a bucket fills, and the most that it holds. */
export interface BucketRate {
  perMinute: number
  burst: number
}

/** Returns a bucket as it is at a later time; a new one is full. A pure function. */
export function fillBucket(
  bucket: TokenBucket | undefined,
  { perMinute, burst }: BucketRate,
  atMs: number,
): TokenBucket {
  if (!bucket) return { left: burst, atMs }
  // The clock may have been set back.
  const passedMs = Math.max(0, atMs - bucket.atMs)
  return { left: Math.min(burst, bucket.left + (perMinute * passedMs) / 60_000), atMs }
}
