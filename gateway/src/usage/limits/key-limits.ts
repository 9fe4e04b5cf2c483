import type { LimitChanges, LimitsEntry } from '@copal/shared/wire/admin-keys.ts'
import type { Limits, LimitedAccount } from '../../contracts/limits.ts'

/** Returns the accounts of a key that have any limit; if there are none, nothing is counted. */
export function limitedAccounts(key: {
  id: string
  limits: Limits
  tenant: string
  tenantLimits: Limits | null
}): LimitedAccount[] {
  const accounts: LimitedAccount[] = [
    { kind: 'key', name: key.id, limits: key.limits },
    { kind: 'tenant', name: key.tenant, limits: key.tenantLimits ?? {} },
  ]
  return accounts.filter(({ limits }) => Object.keys(limits).length > 0)
}

/** Returns limits after changes: a number sets a limit, null removes it, undefined keeps it. */
export function changeLimits(limits: Limits, changes: LimitChanges): Limits {
  const set = (name: keyof Limits, value: number | null | undefined): Limits => {
    const next = value === undefined ? limits[name] : value
    return next === undefined || next === null ? {} : { [name]: next }
  }
  return {
    ...set('requestsPerMinute', changes.requests_per_minute),
    ...set('tokensPerMinute', changes.tokens_per_minute),
    ...set('tokensPerMonth', changes.tokens_per_month),
    ...set('concurrentRequests', changes.concurrent_requests),
  }
}

/** Returns limits as the admin API shows them. */
export function limitsEntry(limits: Limits): LimitsEntry {
  return {
    requests_per_minute: limits.requestsPerMinute ?? null,
    tokens_per_minute: limits.tokensPerMinute ?? null,
    tokens_per_month: limits.tokensPerMonth ?? null,
    concurrent_requests: limits.concurrentRequests ?? null,
  }
}
