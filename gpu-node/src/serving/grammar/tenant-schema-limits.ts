import { AppError } from '@copal/shared/errors.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'
import { createTenantCache } from './tenant-cache.ts'

/** Schemas of one tenant that may wait. */
const MAX_WAITING_PER_TENANT = 4
/** How long a schema is refused after it failed or timed out the compiling process, and a tenant after several did. */
const REFUSED_MS = 60_000
/** Failures of the compiling process within {@link CRASH_WINDOW_MS} after which a tenant's new schemas are refused. */
const MAX_CRASHES = 3
const CRASH_WINDOW_MS = 300_000
/** Schemas, and tenants, whose failures are remembered. */
const MAX_REMEMBERED = 256

/** A schema to compile, and the field that it comes from. */
interface RequestedSchema {
  key: string
  param: string
}

/**
 * The schemas that each tenant may have compiled. The errors are of the tenant (`rate_limit_exceeded`), so that the gateway neither
 * takes the node for full nor tries other nodes.
 */
export interface TenantSchemaLimits {
  /**
   * Admits a schema to the queue; the caller calls the returned function when it has been compiled.
   *
   * @throws AppError `rate_limit_exceeded` when the tenant has too many schemas waiting, or when this schema, or several of
   * the tenant, made the compiling process fail of late
   */
  admit(tenant: string, schema: RequestedSchema): () => void
  /** Counts a failure or a timeout of the process that compiled a tenant's schema. */
  recordCrash(tenant: string, key: string): void
}

/** Creates limits of which no tenant has used anything. */
export function createTenantSchemaLimits(nowMs: () => number = Date.now): TenantSchemaLimits {
  const waitingOf = new Map<string, number>()
  /** When each schema may be compiled again. */
  const refusedUntilMs = createTenantCache<number>(MAX_REMEMBERED)
  /** The times of the last failures of each tenant, at most {@link MAX_CRASHES}. */
  const crashesOf = new Map<string, number[]>()

  const crashesOfLate = (tenant: string): number[] =>
    (crashesOf.get(tenant) ?? []).filter((atMs) => nowMs() - atMs < CRASH_WINDOW_MS)

  return {
    admit(tenant, { key, param }) {
      const schemaMs = (refusedUntilMs.get(tenant, key) ?? 0) - nowMs()
      if (schemaMs > 0)
        throw refusal('The process that compiles schemas failed with this one', schemaMs, param)
      const crashes = crashesOfLate(tenant)
      const tenantMs = (crashes.at(-1) ?? 0) + REFUSED_MS - nowMs()
      if (crashes.length >= MAX_CRASHES && tenantMs > 0)
        throw refusal(
          `The process that compiles schemas failed with ${crashes.length} of yours`,
          tenantMs,
          param,
        )
      const waiting = waitingOf.get(tenant) ?? 0
      if (waiting >= MAX_WAITING_PER_TENANT) {
        const message = `${waiting} of your schemas already wait to be compiled on this node. Try again later.`
        throw new AppError('rate_limit_exceeded', message, { retryAfterS: 1, param })
      }
      waitingOf.set(tenant, waiting + 1)
      return () => {
        const remaining = (waitingOf.get(tenant) ?? 1) - 1
        if (remaining > 0) waitingOf.set(tenant, remaining)
        else waitingOf.delete(tenant)
      }
    },
    recordCrash(tenant, key) {
      refusedUntilMs.set(tenant, key, nowMs() + REFUSED_MS)
      const crashes = [...crashesOfLate(tenant), nowMs()].slice(-MAX_CRASHES)
      crashesOf.delete(tenant)
      const [oldest] = crashesOf.keys()
      if (crashesOf.size >= MAX_REMEMBERED && oldest !== undefined) crashesOf.delete(oldest)
      crashesOf.set(tenant, crashes)
    },
  }
}

function refusal(what: string, waitMs: number, param: string): AppError {
  const retryAfterS = retryAfterSeconds(waitMs)
  return new AppError('rate_limit_exceeded', `${what}. Simplify it, or try again in ${retryAfterS} s.`, {
    retryAfterS,
    param,
  })
}
