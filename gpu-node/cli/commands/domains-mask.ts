import type { Command } from 'commander'
import { updateEntry } from '@copal/shared/wire/admin.ts'
import { removedOwnMask } from '@copal/shared/wire/admin-domains.ts'
import { updateStateWord } from '@copal/shared/wire/update-states.ts'
import { formatMask } from '@copal/gpu-node/platform/quantities.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { followUpdate } from '../api/follow-update.ts'
import type { Session } from '../api/session.ts'
import { createProgressBar } from '../output/progress-bar.ts'
import { describeFailure } from './update.ts'

interface MaskOptions {
  remove?: boolean
  detach?: boolean
  model?: string
  json?: boolean
}

/** Adds `copal domains mask`. */
export function addMask(domains: Command, session: Session): void {
  domains
    .command('mask')
    .description('make a mask for one domain, which serves it where it is better there than the shared mask')
    .argument('<name>', 'the domain')
    .option('--remove', 'let the shared mask serve the domain again')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('-d, --detach', 'start the update and return at once')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe policy must allow it: npx copal policy set discovery.own_masks=true\n\nExamples:\n  npx copal domains mask legal\n  npx copal domains mask legal --remove',
    )
    .action(async (name: string, { remove, detach, model }: MaskOptions, command: Command) => {
      const { json } = command.optsWithGlobals<{ json?: boolean }>()
      const client = session.client()
      const path = `/domains/${encodeURIComponent(name)}/mask`
      if (remove) {
        const query = model === undefined ? '' : `?model=${encodeURIComponent(model)}`
        const removed = await client.admin('DELETE', path + query, removedOwnMask)
        session.print(
          json,
          removed,
          () => `The shared mask serves ${name} again, instead of ${formatMask(removed.mask_version)}.`,
        )
        return
      }
      const created = await client.admin('POST', path, updateEntry, model === undefined ? {} : { model })
      if (detach) {
        session.print(
          json,
          created,
          () => `Started update ${created.id}. Follow it with: npx copal updates ${created.id}`,
        )
        return
      }
      const bar = createProgressBar(session.terminal.stderr)
      const ended = await followUpdate(client, created.id, bar, session.terminal.signal)
      session.print(json, ended, () =>
        ended.state === 'promoted' && ended.mask_version !== null
          ? `${formatMask(ended.mask_version)} serves ${name} where a node holds it. See: npx copal domains`
          : `Update ${ended.id}: ${updateStateWord(ended)}.`,
      )
      if (ended.state !== 'promoted')
        throw new UserError(ended.error?.code ?? ended.state, describeFailure(ended))
    })
}
