const TICK_MS = 5 * 60_000

/** Returns which of some things, numbered from 0, has its turn in a task of every five minutes. */
export function turnAt(nowMs: number, things: number): number {
  return Math.floor(nowMs / TICK_MS) % things
}

/**
 * Returns the first digits of the hashes whose turn it is in a task of every five minutes, so that 16 runs come round with one
 * digit and 256 with two, and no place must be remembered.
 */
export function shardAt(nowMs: number, digits: number): string {
  return turnAt(nowMs, 16 ** digits)
    .toString(16)
    .padStart(digits, '0')
}
