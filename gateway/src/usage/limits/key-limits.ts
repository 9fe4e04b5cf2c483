import type { LimitChanges, LimitsEntry } from '@copal/shared/wire/admin-keys.ts'
import type { Limits, LimitedAccount, LimitsPatch } from '../../contracts/limits.ts'

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

/** Returns changes that the admin API received in the form of stored limits. */
export function limitsPatch(changes: LimitChanges): LimitsPatch {
  return {
    requestsPerMinute: changes.requests_per_minute,
    tokensPerMinute: changes.tokens_per_minute,
    tokensPerMonth: changes.tokens_per_month,
    concurrentRequests: changes.concurrent_requests,
  }
}

/** Returns limits after changes: a number sets a limit, null removes it, undefined keeps it. */
export function changeLimits(limits: Limits, changes: LimitChanges): Limits {
  const patch = limitsPatch(changes)
  const set = (name: keyof Limits): Limits => {
    const next = patch[name] === undefined ? limits[name] : patch[name]
    return next === undefined || next === null ? {} : { [name]: next }
  }
  return {
    ...set('requestsPerMinute'),
    ...set('tokensPerMinute'),
    ...set('tokensPerMonth'),
    ...set('concurrentRequests'),
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
