import { openSync, statSync, truncateSync } from 'node:fs'

const LARGEST_BYTES = 20_000_000

/** Opens a log for appending, emptied first when it has grown large. The caller closes the descriptor. */
export function openLog(path: string): number {
  try {
    if (statSync(path).size > LARGEST_BYTES) truncateSync(path)
  } catch {
    // There is none yet.
  }
  return openSync(path, 'a', 0o600)
}
