import { AppError } from '@copal/shared/errors.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'
import { monotonicMs } from '../../platform/clock.ts'
import { createTenantCache } from './tenant-cache.ts'

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
 * Refuses schemas with which compiling failed of late. The errors are of the tenant (`rate_limit_exceeded`), so that the gateway
 * neither takes the node for full nor tries other nodes.
 */
export interface TenantSchemaLimits {
  /** @throws AppError `rate_limit_exceeded` when this schema, or several of the tenant, made the compiling process fail of late */
  check(tenant: string, schema: RequestedSchema): void
  /** Counts a failure or a timeout of the process that compiled a tenant's schema. */
  recordCrash(tenant: string, key: string): void
}

/** Creates limits that refuse nothing yet. */
export function createTenantSchemaLimits(nowMs = monotonicMs): TenantSchemaLimits {
  /** When each schema may be compiled again. */
  const refusedUntilMs = createTenantCache<number>(MAX_REMEMBERED)
  /** The times of the last failures of each tenant, at most {@link MAX_CRASHES}. */
  const crashesOf = new Map<string, number[]>()

  const crashesOfLate = (tenant: string): number[] =>
    (crashesOf.get(tenant) ?? []).filter((atMs) => nowMs() - atMs < CRASH_WINDOW_MS)

  return {
    check(tenant, { key, param }) {
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
