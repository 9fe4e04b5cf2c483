import type { Command } from 'commander'
import type { TenantEntry } from '@copal/shared/wire/keys.ts'
import { addLimitOptions, formatLimits, limitChanges, type LimitOptions } from '../limit-options.ts'
import { formatAge, formatCount } from '../quantities.ts'
import type { Session } from '../session.ts'

export function addTenants(program: Command, session: Session): void {
  const tenants = program.command('tenants').description('groups of API keys and their limits: list, set')
  tenants
    .command('list')
    .description('tenants, their limits, and how many keys each has')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  copal tenants list')
    .action(async ({ json }: { json?: boolean }) => {
      const { data } = await session.client().admin<{ data: TenantEntry[] }>('GET', '/tenants')
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
        .admin<TenantEntry>('PUT', `/tenants/${encodeURIComponent(name)}`, { limits: limitChanges(options) })
      session.print(json, tenant, () => describe([tenant], session))
    })
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
