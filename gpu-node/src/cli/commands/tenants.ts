import type { Command } from 'commander'
import type { TenantEntry } from '@copal/shared/wire/keys.ts'
import { formatAge, formatCount } from '../quantities.ts'
import type { Session } from '../session.ts'

export function addTenants(program: Command, session: Session): void {
  const tenants = program.command('tenants').description('groups of API keys: list, set')
  tenants
    .command('list')
    .description('tenants and how many keys each has')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  copal tenants list')
    .action(async ({ json }: { json?: boolean }) => {
      const { data } = await session.client().admin<{ data: TenantEntry[] }>('GET', '/tenants')
      session.print(json, data, () => describe(data, session))
    })

  tenants
    .command('set')
    .description('make a tenant')
    .argument('<name>', 'lower-case letters, digits and inner - _ .')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  copal tenants set acme')
    .action(async (name: string, { json }: { json?: boolean }) => {
      const tenant = await session
        .client()
        .admin<TenantEntry>('PUT', `/tenants/${encodeURIComponent(name)}`, {})
      session.print(json, tenant, () => describe([tenant], session))
    })
}

function describe(tenants: TenantEntry[], session: Session): string {
  const nowMs = Date.now()
  return session.table(
    [
      { title: 'TENANT', value: (tenant) => tenant.name, shrinks: true },
      { title: 'KEYS', value: (tenant) => formatCount(tenant.keys), align: 'right' },
      { title: 'MADE', value: (tenant) => formatAge(tenant.created_at, nowMs) },
    ],
    tenants,
  )
}
