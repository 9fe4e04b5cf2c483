import { Option, type Command } from 'commander'
import { changedDomain } from '@copal/shared/wire/admin-domains.ts'
import type { Session } from '../api/session.ts'

/** Adds `copal domains set`. */
export function addSet(domains: Command, session: Session): void {
  const set = domains
    .command('set')
    .description('give a domain to a tenant, whose texts alone it then takes, or share it')
    .argument('<name>', 'the domain')
    .addOption(new Option('--owner <tenant>', 'the tenant that it belongs to').conflicts('shared'))
    .option('--shared', 'keep texts of every tenant in it')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal domains set legal --owner acme\n  npx copal domains set legal --shared',
    )
    .action(
      async (name: string, { owner, shared }: { owner?: string; shared?: boolean }, command: Command) => {
        const { json } = command.optsWithGlobals<{ json?: boolean }>()
        if (owner === undefined && !shared) set.error('error: give --owner <tenant> or --shared')
        const body = { owner: owner ?? null }
        const path = `/domains/${encodeURIComponent(name)}`
        const changed = await session.client().admin('PUT', path, changedDomain, body)
        session.print(json, changed, () =>
          changed.owner === null
            ? `${name} is shared by every tenant.`
            : `${name} belongs to ${changed.owner}. Texts of others that are stored stay until they are deleted.`,
        )
      },
    )
}
