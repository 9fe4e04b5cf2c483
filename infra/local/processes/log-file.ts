import { openSync, statSync, truncateSync } from 'node:fs'

const MAX_BYTES = 20_000_000

/** Opens a log for appending, and empties it first if it has grown large. The caller closes the descriptor. */
export function openLog(path: string): number {
  try {
    if (statSync(path).size > MAX_BYTES) truncateSync(path)
  } catch {
    // The log does not exist yet.
  }
  return openSync(path, 'a', 0o600)
}
