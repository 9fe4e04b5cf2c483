import { readFileSync, statSync } from 'node:fs'

/** Returns the length of a log in bytes; 0 if there is none. */
export function logLength(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

/**
 * Returns what a gateway that cannot be configured says about it in its log. It answers its health check with a plain error then,
 * because its cause is for its operator alone.
 *
 * @param fromByte the length of the log when this gateway was started
 * @returns undefined if it says nothing
 */
export function readConfigurationFault(logPath: string, fromByte: number): string | undefined {
  const length = logLength(logPath)
  if (length === 0) return undefined
  // A log that has grown large is emptied at the start.
  const text = readFileSync(logPath).subarray(length < fromByte ? 0 : fromByte)
  return /The gateway is not configured: .*/.exec(text.toString())?.[0]
}
