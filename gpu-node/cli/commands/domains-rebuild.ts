import type { Command } from 'commander'
import { rebuiltDomain, type RebuiltDomain } from '@copal/shared/wire/admin-domains.ts'
import { counted } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addYesOption, confirm } from '../input/confirm.ts'

/** Adds `copal domains rebuild`. */
export function addRebuild(domains: Command, session: Session): void {
  const rebuild = domains
    .command('rebuild')
    .description('make the statistics of a domain anew from the texts that are retained')
    .argument('<name>', 'the domain')
  addYesOption(rebuild, 'rebuild')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal domains rebuild legal')
    .action(async (name: string, { yes }: { yes?: boolean }, command: Command) => {
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      await confirm(session.terminal, `delete the statistics of the domain ${name} and make them anew`, yes)
      const path = `/domains/${encodeURIComponent(name)}/rebuild`
      const rebuilt = await session.client().admin('POST', path, rebuiltDomain)
      session.print(json, rebuilt, () => describe(rebuilt))
    })
}

function describe({ domain, datasets, samples, characters, models }: RebuiltDomain): string {
  const retained = `${counted(samples, 'text')} (${counted(characters, 'character')}) ${samples === 1 ? 'is' : 'are'} retained`
  const gone = `${counted(datasets, 'dataset')} no longer ${datasets === 1 ? 'counts' : 'count'}`
  const lines = [`${domain}: ${gone}; ${retained}.`]
  for (const { model, starts } of models)
    lines.push(
      starts === 'by_trigger'
        ? `${model} has no statistics of it until the next update, which a trigger starts when there is enough text.`
        : `${model} has no statistics of it until you run: npx copal update ${domain} --model ${model}`,
    )
  return lines.join('\n')
}
