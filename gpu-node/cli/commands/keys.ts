import { InvalidArgumentError, Option, type Command } from 'commander'
import { suggestName } from '@copal/shared/suggest-name.ts'
import { statusReport } from '@copal/shared/wire/admin.ts'
import {
  createdKey,
  type CreateKey,
  keyEntry,
  type KeyEntry,
  keyScope,
  type KeyScope,
  revokedKey,
  type SamplingPolicy,
} from '@copal/shared/wire/admin-keys.ts'
import { splitList } from '../options/option-parsers.ts'
import { listAll } from '../api/list-all.ts'
import { addYesOption, confirm } from '../input/confirm.ts'
import { addLimitOptions, formatLimits, limitChanges, type LimitOptions } from '../options/limit-options.ts'
import { formatAge, formatDuration } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addKeySampling } from './key-sampling.ts'

interface CreateOptions extends LimitOptions {
  json?: boolean
  tenant?: string
  scopes?: KeyScope[]
  domain?: string
  discover?: boolean
  domains?: string[]
  models?: string[]
  sampling: SamplingPolicy
  expiresIn?: number
}

export function addKeys(program: Command, session: Session): void {
  const keys = program
    .command('keys')
    .description('API keys: list, create, limit, set the sampling of, rotate, revoke')
    .addHelpText('after', '\nExamples:\n  npx copal keys create notebook\n  npx copal keys list')
  addCreate(keys, session)
  addKeySampling(keys, session)
  keys
    .command('list')
    .description('list API keys that were not revoked')
    .option('--tenant <name>', 'only those of this tenant')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  npx copal keys list\n  npx copal keys list --tenant acme')
    .action(async ({ json, tenant }: { json?: boolean; tenant?: string }) => {
      const query = tenant === undefined ? '' : `?tenant=${encodeURIComponent(tenant)}`
      const data = await listAll(session.client(), `/keys${query}`, keyEntry)
      session.print(json, data, () => (data.length === 0 ? describeNone(tenant) : describe(data, session)))
    })

  const limit = keys
    .command('limit')
    .description('change the limits of a key; limits that are not named stay as they are')
    .argument('<id>', 'id of the key, see npx copal keys list')
  addLimitOptions(limit)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal keys limit key_0123456789abcdef --requests-per-minute 60\n' +
        '  npx copal keys limit key_0123456789abcdef --tokens-per-month none',
    )
    .action(async (id: string, { json, ...options }: LimitOptions & { json?: boolean }) => {
      const limits = limitChanges(options)
      if (Object.keys(limits).length === 0)
        limit.error('error: name a limit to change, like --requests-per-minute 60')
      const key = await session
        .client()
        .admin('PATCH', `/keys/${encodeURIComponent(id)}`, keyEntry, { limits })
      session.print(json, key, () => `Limits of ${id}: ${formatLimits(key.limits)}.`)
    })

  keys
    .command('rotate')
    .description('give a key a new secret, which is shown once; the old one stays valid for a while')
    .argument('<id>', 'id of the key, see npx copal keys list')
    .option(
      '--grace <time>',
      'how long the old secret stays valid: 90s, 30m, 24h or 7d; 0s ends it at once (default: 24h)',
      duration,
    )
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal keys rotate key_0123456789abcdef\n  npx copal keys rotate key_0123456789abcdef --grace 0s',
    )
    .action(async (id: string, { json, grace }: { json?: boolean; grace?: number }) => {
      const rotated = await session
        .client()
        .admin(
          'POST',
          `/keys/${encodeURIComponent(id)}/rotate`,
          createdKey,
          grace === undefined ? {} : { grace_seconds: grace },
        )
      session.print(json, rotated, () => {
        const until = rotated.previous_valid_until
        const old =
          until === null ? 'The old key is no longer valid.' : `The old key is valid until ${until}.`
        session.terminal.stderr.write(`${old}\n`)
        return rotated.key
      })
    })

  const revoke = keys
    .command('revoke')
    .description('revoke a key, which takes effect everywhere within half a minute')
    .argument('<id>', 'id of the key, see npx copal keys list')
  addYesOption(revoke, 'revoke')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal keys revoke key_0123456789abcdef')
    .action(async (id: string, { json, yes }: { json?: boolean; yes?: boolean }) => {
      await confirm(session.terminal, `revoke the key ${id}`, yes)
      const response = await session.client().admin('DELETE', `/keys/${encodeURIComponent(id)}`, revokedKey)
      session.print(json, response, () => `Revoked ${id}.`)
    })
}

function addCreate(keys: Command, session: Session): void {
  const create = keys
    .command('create')
    .description('create an API key, which is shown once')
    .argument('<name>', 'a name to recognise the key by')
    .option('--tenant <name>', "tenant of the key, see npx copal tenants list (default: 'default')")
    .option(
      '--scopes <names>',
      'what it may do, separated by commas: inference, read-metrics, admin, read-admin (default: inference)',
      scopes,
    )
    .option('--domain <name>', "domain of its requests that name none (default: 'default')")
    .option('--discover', 'find the domains of their texts; unclear ones go to --domain (default without it)')
    .option('--no-discover', 'take them all for texts of --domain')
    .option(
      '--domains <names>',
      'the only domains that its requests may name, separated by commas',
      splitList,
    )
    .option(
      '--models <names>',
      'the only models it may use, separated by commas; unknown ones give a warning',
      splitList,
    )
    .option(
      '--expires-in <time>',
      'how long it is valid, like 12h or 90d (default: until it is revoked)',
      duration,
    )
    .addOption(
      new Option(
        '--sampling <policy>',
        'which requests may be sampled; opt_in: only those with x-copal-sample: true',
      )
        .choices(['never', 'opt_in', 'always'])
        .default('opt_in'),
    )
  addLimitOptions(create)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal keys create notebook\n' +
        '  npx copal keys create lawyers --tenant acme --domain legal --sampling always\n' +
        '  npx copal keys create figures --tenant acme --scopes read-metrics --expires-in 90d\n' +
        '  npx copal keys create prometheus --scopes read-admin\n' +
        '  npx copal keys create guest --requests-per-minute 20 --tokens-per-month 1000000',
    )
    .action(async (name: string, options: CreateOptions) => {
      const body: CreateKey = {
        name,
        ...(options.tenant === undefined ? {} : { tenant: options.tenant }),
        ...(options.scopes === undefined ? {} : { scopes: options.scopes }),
        ...(options.domain === undefined ? {} : { default_domain: options.domain }),
        ...(options.discover === undefined ? {} : { discover_domains: options.discover }),
        ...(options.domains === undefined ? {} : { allowed_domains: options.domains }),
        ...(options.models === undefined ? {} : { allowed_models: options.models }),
        ...(options.expiresIn === undefined
          ? {}
          : { expires_at: new Date(Date.now() + options.expiresIn * 1000).toISOString() }),
        sampling: options.sampling,
        limits: limitChanges(options),
      }
      const created = await session.client().admin('POST', '/keys', createdKey, body)
      session.print(options.json, created, () => created.key)
      if (options.models) await warnOfUnknown(options.models, session)
    })
}

/**
 * Warns of models that the gateway does not know. The key is created anyway, because they may be added later. There is
 * no warning when the gateway does not list its models, which it does only for the admin key.
 */
async function warnOfUnknown(models: readonly string[], { client, terminal }: Session): Promise<void> {
  const status = await client()
    .admin('GET', '/status', statusReport)
    .catch(() => undefined)
  if (!status) return
  const known = status.models.map(({ id }) => id)
  for (const model of models.filter((name) => !known.includes(name))) {
    const suggestion = suggestName(model, known)
    const hint = suggestion
      ? `Did you mean '${suggestion}'?`
      : `Known models: ${known.join(', ') || 'none yet'}.`
    terminal.stderr.write(
      `Warning: the gateway does not know the model '${model}'. ${hint} The key may use it once a node serves it.\n`,
    )
  }
}

function scopes(text: string): KeyScope[] {
  const known = keyScope.options
  return splitList(text).map((name) => {
    const scope = known.find((each) => each === name)
    if (scope === undefined) throw new InvalidArgumentError(`Expected one of ${known.join(', ')}.`)
    return scope
  })
}

const SECONDS = { s: 1, m: 60, h: 3600, d: 24 * 3600 }

/** Parses `90s`, `30m`, `24h` or `7d` into seconds. */
function duration(text: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(text)
  if (!match) throw new InvalidArgumentError('A time like 90s, 30m, 24h or 7d is expected.')
  return Number(match[1]) * SECONDS[match[2] as keyof typeof SECONDS]
}

function describeNone(tenant: string | undefined): string {
  return tenant === undefined
    ? 'There are no keys. Create one with: npx copal keys create <name>'
    : `The tenant '${tenant}' has no keys. 'npx copal tenants list' lists the tenants.`
}

/** Explains the column DOMAIN. */
const FOUND =
  "DOMAIN 'found': a request that names no domain gets one by its content; unclear ones go to the domain after 'else', or to 'default'."

function describe(keys: KeyEntry[], session: Session): string {
  const isAnyFound = keys.some(({ discover_domains: found }) => found)
  return [keyTable(keys, session), ...(isAnyFound ? [FOUND] : [])].join('\n\n')
}

function keyTable(keys: KeyEntry[], session: Session): string {
  const nowMs = Date.now()
  return session.table(
    [
      { title: 'KEY', value: (key) => key.id },
      { title: 'NAME', value: (key) => key.name },
      { title: 'TENANT', value: (key) => key.tenant, shrinks: true },
      { title: 'BEGINS', value: (key) => key.prefix },
      { title: 'SCOPES', value: (key) => key.scopes.join(','), shrinks: true },
      { title: 'DOMAIN', value: describeDomain, shrinks: true },
      { title: 'MODELS', value: (key) => key.allowed_models?.join(',') ?? 'all', shrinks: true },
      { title: 'SAMPLING', value: (key) => key.sampling },
      { title: 'LIMITS', value: (key) => formatLimits(key.limits), shrinks: true },
      { title: 'CREATED', value: (key) => formatAge(key.created_at, nowMs) },
      { title: 'EXPIRES', value: (key) => formatExpiry(key.expires_at, nowMs) },
    ],
    keys,
  )
}

/** The domain of requests that name none, as the dashboard words it. */
function describeDomain({ default_domain: domain, discover_domains: found }: KeyEntry): string {
  if (!found) return domain
  return domain === 'default' ? 'found' : `found, else ${domain}`
}

function formatExpiry(iso: string | null, nowMs: number): string {
  if (iso === null) return 'never'
  const leftMs = Date.parse(iso) - nowMs
  return leftMs <= 0 ? 'expired' : `in ${formatDuration(leftMs)}`
}
