const TICK_MS = 5 * 60_000

/**
 * Returns the first digits of the hashes whose turn it is in a task of every five minutes, so that 16 runs come round with one
 * digit and 256 with two, and no place must be remembered.
 */
export function shardAt(nowMs: number, digits: number): string {
  return (Math.floor(nowMs / TICK_MS) % 16 ** digits).toString(16).padStart(digits, '0')
}
