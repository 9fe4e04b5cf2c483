/** What is known of a response that is fetched again and again, and the state in which a page shows it. */
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
  /** The time after which it counts as stale, milliseconds; `undefined`: it is read once. */
  staleAfterMs: number | undefined
  /** Fetches it now. */
  reload: () => void
}

/** The state of a page: `forbidden` is a key that may not see it. */
export type ResourceState = 'loading' | 'live' | 'stale' | 'failing' | 'forbidden' | 'missing'

/** Tells in which state a resource is shown. A value that was received stays visible while it is stale. */
export function stateOf(resource: Omit<Resource<unknown>, 'reload'>, nowMs: number): ResourceState {
  const { value, error, receivedAtMs, staleAfterMs } = resource
  if (error?.status === 403) return 'forbidden'
  if (error?.status === 404) return 'missing'
  if (value === undefined) return error ? 'failing' : 'loading'
  const isOld =
    staleAfterMs !== undefined && receivedAtMs !== undefined && nowMs - receivedAtMs > staleAfterMs
  return isOld || error !== undefined ? 'stale' : 'live'
}

/** The time after which data that is fetched every `refreshMs` is stale: three periods, at least 15 s. */
export function staleAfter(refreshMs: number | undefined): number | undefined {
  return refreshMs === undefined ? undefined : Math.max(15_000, 3 * refreshMs)
}

/** Milliseconds until the next attempt after `failures` in a row: 1 s, doubling to 30 s; `undefined`: another cannot help. */
export function retryDelayMs(error: ApiError, failures: number): number | undefined {
  const mayHelp = error.status === 0 || error.status === 429 || error.status >= 500
  return mayHelp ? Math.min(30_000, 1_000 * 2 ** (failures - 1)) : undefined
}
