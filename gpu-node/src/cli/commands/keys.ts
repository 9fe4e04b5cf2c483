import { Option, type Command } from 'commander'
import type { CreatedKey, KeyEntry, SamplingPolicy } from '@copal/shared/wire/admin.ts'
import { formatAge } from '../quantities.ts'
import type { Session } from '../session.ts'

export function addKeys(program: Command, session: Session): void {
  const keys = program.command('keys').description('API keys: create, list, revoke')
  keys
    .command('create')
    .description('make an API key; it is shown once')
    .argument('<name>', 'who it is for')
    .option('--domain <name>', 'the domain of its requests', 'default')
    .addOption(
      new Option(
        '--sampling <policy>',
        'which requests may be sampled: opt_in are those with x-copal-sample: true',
      )
        .choices(['never', 'opt_in', 'always'])
        .default('opt_in'),
    )
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  copal keys create notebook\n  copal keys create lawyers --domain legal --sampling always',
    )
    .action(async (name: string, options: { json?: boolean; domain: string; sampling: SamplingPolicy }) => {
      const created = await session.client().admin<CreatedKey>('POST', '/keys', {
        name,
        default_domain: options.domain,
        sampling: options.sampling,
      })
      session.print(options.json, created, () => created.key)
    })

  keys
    .command('list')
    .description('API keys that are in force')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  copal keys list')
    .action(async ({ json }: { json?: boolean }) => {
      const { data } = await session.client().admin<{ data: KeyEntry[] }>('GET', '/keys')
      session.print(json, data, () => describe(data, session))
    })

  keys
    .command('revoke')
    .description('make a key useless, within half a minute everywhere')
    .argument('<id>', 'as copal keys list shows it')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  copal keys revoke key_0123456789abcdef')
    .action(async (id: string, { json }: { json?: boolean }) => {
      const answer = await session.client().admin('DELETE', `/keys/${encodeURIComponent(id)}`)
      session.print(json, answer, () => `Revoked ${id}.`)
    })
}

function describe(keys: KeyEntry[], session: Session): string {
  const nowMs = Date.now()
  return session.table(
    [
      { title: 'KEY', value: (key) => key.id },
      { title: 'NAME', value: (key) => key.name, shrinks: true },
      { title: 'DOMAIN', value: (key) => key.default_domain, shrinks: true },
      { title: 'SAMPLING', value: (key) => key.sampling },
      { title: 'MADE', value: (key) => formatAge(key.created_at, nowMs) },
    ],
    keys,
  )
}
