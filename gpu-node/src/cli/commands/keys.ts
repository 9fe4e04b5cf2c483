import { Option, type Command } from 'commander'
import type { CreatedKey, SamplingPolicy } from '@copal/shared/wire/admin.ts'
import type { Session } from '../session.ts'

export function addKeys(program: Command, session: Session): void {
  const keys = program.command('keys').description('API keys')
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
}
