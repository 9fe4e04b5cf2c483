/** The last response and error of a path that is fetched repeatedly, and the state in which a page shows them. */
import type { ApiError } from './client.ts'

/** The last response of an endpoint and the last error since. */
export interface Snapshot<T = unknown> {
  value: T | undefined
  /** When `value` came, milliseconds. */
  receivedAtMs: number | undefined
  /** Why the last attempt failed; `undefined` after a success. */
  error: ApiError | undefined
}

/** A snapshot that is kept up to date. */
export interface Resource<T> extends Snapshot<T> {
  /** Fetches it now. */
  reload: () => void
}

/** The state of a page: `forbidden` is a key that may not see it. */
export type ResourceState = 'loading' | 'ready' | 'failing' | 'forbidden' | 'missing'

/** Returns the state in which a resource is shown. A received value stays visible when later attempts fail. */
export function stateOf({ value, error }: Pick<Snapshot, 'value' | 'error'>): ResourceState {
  if (error?.status === 403) return 'forbidden'
  if (error?.status === 404) return 'missing'
  if (value === undefined) return error ? 'failing' : 'loading'
  return 'ready'
}

/**
 * Whether a value is stale: the last attempt failed, or it is older than three periods and 15 s.
 *
 * @param refreshMs the period in which it is fetched; `undefined`: it is fetched once, and old only after a failure
 */
export function isStale(
  { value, error, receivedAtMs }: Snapshot,
  refreshMs: number | undefined,
  nowMs: number,
): boolean {
  if (value === undefined || receivedAtMs === undefined) return false
  if (error) return error.status !== 403 && error.status !== 404
  return refreshMs !== undefined && nowMs - receivedAtMs > Math.max(15_000, 3 * refreshMs)
}

/** Milliseconds until the next attempt after `failures` in a row: 1 s, doubling to 30 s; `undefined`: another cannot help. */
export function retryDelayMs(error: ApiError, failures: number): number | undefined {
  const mayHelp = error.status === 0 || error.status === 429 || error.status >= 500
  return mayHelp ? Math.min(30_000, 1_000 * 2 ** (failures - 1)) : undefined
}

/** Tells that a first response or error has come, so that the parts below can be placed. */
export function hasCome({ value, error }: Pick<Snapshot, 'value' | 'error'>): boolean {
  return value !== undefined || error !== undefined
}
