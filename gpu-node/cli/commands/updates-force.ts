import type { Command } from 'commander'
import { updateEntry } from '@copal/shared/wire/admin.ts'
import { updateStateWord } from '@copal/shared/wire/update-states.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { followUpdate } from '../api/follow-update.ts'
import type { Session } from '../api/session.ts'
import { createProgressBar } from '../output/progress-bar.ts'
import { describeEnd, describeFailure } from './update.ts'

interface ForceOptions {
  reason: string
  detach?: boolean
  json?: boolean
}

/** `copal updates force`, a subcommand of `copal updates`. */
export function addUpdatesForce(updates: Command, session: Session): void {
  updates
    .command('force')
    .description('serve a mask that the gate rejected for being worse; the reason is kept with the decision')
    .argument('<id>', 'id of the newest update of its model, see npx copal updates')
    .requiredOption('--reason <text>', 'why, in at least 10 characters')
    .option('-d, --detach', 'return at once')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  npx copal updates force upd_0123456789abcdef --reason "legal accepts 6 % until Monday"',
    )
    // `updates` has an option of the same name, and Commander assigns the value to it.
    .action(async (id: string, _options: unknown, command: Command) => {
      const { reason, detach, json } = command.optsWithGlobals<ForceOptions>()
      const client = session.client()
      const forced = await client.admin('POST', `/updates/${encodeURIComponent(id)}/force`, updateEntry, {
        reason,
      })
      if (detach) {
        session.print(
          json,
          forced,
          () =>
            `Update ${forced.id}: ${updateStateWord(forced)}. Follow it with: npx copal updates ${forced.id}`,
        )
        return
      }
      const bar = createProgressBar(session.terminal.stderr)
      const ended = await followUpdate(client, forced.id, bar, session.terminal.signal)
      session.print(json, ended, () => describeEnd(ended))
      if (ended.state !== 'promoted')
        throw new UserError(ended.error?.code ?? ended.state, describeFailure(ended))
    })
}
