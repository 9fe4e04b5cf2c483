import type { KeyEntry, TenantEntry } from '@copal/shared/wire/admin-keys.ts'
import type { UsageReport } from '@copal/shared/wire/admin-usage.ts'
import { ago } from './service.ts'

const NO_LIMITS = {
  requests_per_minute: null,
  tokens_per_minute: null,
  tokens_per_month: null,
  concurrent_requests: null,
}
const KEY_NAMES = [
  'chat-frontend',
  'batch-eval',
  'call-centre',
  'legal-search',
  '<script>alert(1)</script>\u202egnp.exe',
  'grafana',
]

/** Keys. */
export function keys(): { data: KeyEntry[] } {
  return {
    data: KEY_NAMES.map((name, index) => ({
      id: `key_${String(index + 1).padStart(6, '0')}`,
      name,
      tenant: index === 3 ? 'acme' : 'default',
      prefix: `ck_${'a7f3k9'.slice(index % 3)}`,
      scopes: index === 5 ? ['read-metrics'] : index === 3 ? ['inference', 'admin'] : ['inference'],
      default_domain: index === 2 ? 'speech' : 'default',
      discover_domains: index !== 2,
      allowed_domains: null,
      allowed_models: null,
      sampling: index === 1 ? 'never' : index === 2 ? 'always' : 'opt_in',
      limits:
        index === 0 ? { ...NO_LIMITS, requests_per_minute: 600, tokens_per_month: 50_000_000 } : NO_LIMITS,
      created_at: ago(50_000 - index * 6_000),
      expires_at: index === 1 ? ago(-3.4 * 1_440) : null,
      previous_valid_until: index === 2 ? ago(-610) : null,
    })),
  }
}

/** Tenants. */
export function tenants(): { data: TenantEntry[] } {
  return {
    data: ['acme', 'default'].map((name, index) => ({
      name,
      keys: index === 0 ? 1 : 5,
      limits:
        index === 0 ? { ...NO_LIMITS, tokens_per_month: 200_000_000, concurrent_requests: 32 } : NO_LIMITS,
      sampling: index === 0 ? 'opt_in' : 'always',
      created_at: ago(90_000),
    })),
  }
}

/** Tokens by key and day. */
export function usage(days: number): UsageReport {
  const from = new Date(Date.now() - (days - 1) * 86_400_000).toISOString().slice(0, 10)
  return {
    from,
    days,
    data: KEY_NAMES.slice(0, 5).map((name, index) => {
      const tokens = Array.from({ length: days }, (_, day) =>
        Math.round((1.2e6 / (index + 1)) * (1 + 0.5 * Math.sin(day / 2 + index)) * (day % 7 > 4 ? 0.3 : 1)),
      )
      return {
        key: `key_${String(index + 1).padStart(6, '0')}`,
        name,
        tenant: index === 3 ? 'acme' : 'default',
        prefix: 'ck_a7f',
        revoked: false,
        tokens: index === 0 ? tokens.map((count) => count * 2) : tokens,
        total: tokens.reduce((sum, count) => sum + count, 0) * (index === 0 ? 2 : 1),
      }
    }),
  }
}
