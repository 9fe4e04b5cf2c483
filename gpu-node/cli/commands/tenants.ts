import type { Command } from 'commander'
import {
  cacheEntry,
  type CacheEntry,
  clearedCache,
  tenantEntry,
  type TenantEntry,
} from '@copal/shared/wire/admin-keys.ts'
import { listOf } from '../api/api-client.ts'
import { addLimitOptions, formatLimits, limitChanges, type LimitOptions } from '../options/limit-options.ts'
import {
  counted,
  formatAge,
  formatBytes,
  formatCount,
  formatPercent,
} from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'

export function addTenants(program: Command, session: Session): void {
  const tenants = program
    .command('tenants')
    .description('groups of API keys and their limits: list, set, cache')
    .addHelpText('after', '\nExamples:\n  copal tenants list\n  copal tenants set acme --concurrent 16')
  tenants
    .command('list')
    .description('tenants, their limits, and how many keys each has')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  copal tenants list')
    .action(async ({ json }: { json?: boolean }) => {
      const { data } = await session.client().admin('GET', '/tenants', listOf(tenantEntry))
      session.print(json, data, () => describe(data, session))
    })

  const set = tenants
    .command('set')
    .description('make a tenant, or change its limits; what is not named stays as it is')
    .argument('<name>', 'lower-case letters, digits and inner - _ .')
  addLimitOptions(set)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  copal tenants set acme --requests-per-minute 600 --tokens-per-month 50000000\n' +
        '  copal tenants set acme --requests-per-minute none',
    )
    .action(async (name: string, { json, ...options }: LimitOptions & { json?: boolean }) => {
      const tenant = await session
        .client()
        .admin('PUT', `/tenants/${encodeURIComponent(name)}`, tenantEntry, { limits: limitChanges(options) })
      session.print(json, tenant, () => describe([tenant], session))
    })

  tenants
    .command('cache')
    .description("what a tenant's response cache holds, and how often it had the answer")
    .argument('<name>', "the tenant ('default' holds keys made without one)")
    .option('--clear', 'delete all its answers')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  copal tenants cache acme\n  copal tenants cache acme --clear')
    .action(async (name: string, { clear, json }: { clear?: boolean; json?: boolean }) => {
      const path = `/tenants/${encodeURIComponent(name)}/cache`
      if (clear) {
        const gone = await session.client().admin('DELETE', path, clearedCache)
        session.print(json, gone, () => `${counted(gone.deleted, 'answer')} deleted.`)
      } else {
        const cache = await session.client().admin('GET', path, cacheEntry)
        session.print(json, cache, () => describeCache(cache))
      }
    })
}

function describeCache({ answers, bytes, hits, misses }: CacheEntry): string {
  const asked = hits + misses
  const share = asked === 0 ? '' : ` (${formatPercent(hits / asked)})`
  return (
    `${counted(answers, 'answer')}, ${formatBytes(bytes)}. ` +
    `${formatCount(hits)} of ${counted(asked, 'request')} that asked were answered from it${share}.`
  )
}

function describe(tenants: TenantEntry[], session: Session): string {
  const nowMs = Date.now()
  return session.table(
    [
      { title: 'TENANT', value: (tenant) => tenant.name, shrinks: true },
      { title: 'KEYS', value: (tenant) => formatCount(tenant.keys), align: 'right' },
      { title: 'LIMITS', value: (tenant) => formatLimits(tenant.limits), shrinks: true },
      { title: 'MADE', value: (tenant) => formatAge(tenant.created_at, nowMs) },
    ],
    tenants,
  )
}
