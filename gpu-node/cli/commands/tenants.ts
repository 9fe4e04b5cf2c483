import { InvalidArgumentError, Option, type Command } from 'commander'
import { capitalize } from '@copal/shared/phrases.ts'
import {
  cacheEntry,
  type CacheEntry,
  clearedCache,
  samplingPolicy,
  type SamplingPolicy,
  tenantEntry,
  type TenantEntry,
  tenantName,
} from '@copal/shared/wire/admin-keys.ts'
import { listAll } from '../api/list-all.ts'
import { addLimitOptions, formatLimits, limitChanges, type LimitOptions } from '../options/limit-options.ts'
import {
  counted,
  formatAge,
  formatBytes,
  formatCount,
  formatPercent,
} from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addYesOption, confirm } from '../input/confirm.ts'
import { deletionOf, settleStoredTexts } from './samples.ts'

interface SetOptions extends LimitOptions {
  json?: boolean
  sampling?: SamplingPolicy
  deleteTexts?: boolean
  yes?: boolean
}

export function addTenants(program: Command, session: Session): void {
  const tenants = program
    .command('tenants')
    .description('tenants (groups of API keys) and their limits: list, set, cache')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal tenants list\n  npx copal tenants set acme --concurrent 16',
    )
  tenants
    .command('list')
    .description('list tenants, their limits, and how many keys each has')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal tenants list')
    .action(async ({ json }: { json?: boolean }) => {
      const data = await listAll(session.client(), '/tenants', tenantEntry)
      session.print(json, data, () => describe(data, session))
    })

  const set = tenants
    .command('set')
    .description('create a tenant, or change its limits; what is not named stays as it is')
    .argument('<name>', 'name of the tenant: lower-case letters, digits, and - _ . inside', parseTenant)
    .addOption(
      new Option('--sampling <policy>', 'the most that its keys may have sampled').choices(
        samplingPolicy.options,
      ),
    )
    .option('--delete-texts', 'delete the texts of its keys that are stored')
  addYesOption(set)
  addLimitOptions(set)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal tenants set acme --requests-per-minute 600 --tokens-per-month 50000000\n' +
        '  npx copal tenants set acme --sampling never --delete-texts\n' +
        '  npx copal tenants set acme --requests-per-minute none',
    )
    .action(async (name: string, { json, sampling, deleteTexts, yes, ...options }: SetOptions) => {
      if (deleteTexts) await confirm(session.terminal, deletionOf({ tenant: name }), yes)
      const changes = { limits: limitChanges(options), ...(sampling === undefined ? {} : { sampling }) }
      const tenant = await session
        .client()
        .admin('PUT', `/tenants/${encodeURIComponent(name)}`, tenantEntry, changes)
      session.print(json, tenant, () => describe([tenant], session))
      if (sampling !== undefined || deleteTexts)
        await settleStoredTexts(session, 'tenant', name, deleteTexts === true)
    })

  tenants
    .command('cache')
    .description("show the size and hit rate of a tenant's response cache")
    .argument('<name>', "the tenant; 'default' has the keys created without one")
    .option('--clear', 'delete all cached responses')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal tenants cache acme\n  npx copal tenants cache acme --clear',
    )
    .action(async (name: string, { clear, json }: { clear?: boolean; json?: boolean }) => {
      const path = `/tenants/${encodeURIComponent(name)}/cache`
      if (clear) {
        const gone = await session.client().admin('DELETE', path, clearedCache)
        session.print(json, gone, () => `Deleted ${counted(gone.deleted, 'cached response')}.`)
      } else {
        const cache = await session.client().admin('GET', path, cacheEntry)
        session.print(json, cache, () => describeCache(cache))
      }
    })
}

/** @throws InvalidArgumentError if the name is invalid, before the command asks whether the tenant's texts may be deleted */
function parseTenant(text: string): string {
  const { error } = tenantName.safeParse(text)
  if (error) throw new InvalidArgumentError(`${capitalize(error.issues[0]?.message ?? '')}.`)
  return text
}

function describeCache({ answers, bytes, hits, misses }: CacheEntry): string {
  const lookups = hits + misses
  const share = lookups === 0 ? '' : ` (${formatPercent(hits / lookups)})`
  return (
    `${counted(answers, 'cached response')}, ${formatBytes(bytes)}. ` +
    `${formatCount(hits)} of ${counted(lookups, 'lookup')} found a response${share}.`
  )
}

function describe(tenants: TenantEntry[], session: Session): string {
  const nowMs = Date.now()
  return session.table(
    [
      { title: 'TENANT', value: (tenant) => tenant.name, shrinks: true },
      { title: 'KEYS', value: (tenant) => formatCount(tenant.keys), align: 'right' },
      { title: 'LIMITS', value: (tenant) => formatLimits(tenant.limits), shrinks: true },
      { title: 'SAMPLING', value: (tenant) => tenant.sampling },
      { title: 'CREATED', value: (tenant) => formatAge(tenant.created_at, nowMs) },
    ],
    tenants,
  )
}
