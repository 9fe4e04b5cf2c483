import { Argument, type Command } from 'commander'
import { keyEntry, samplingPolicy, type SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import type { Session } from '../api/session.ts'
import { addYesOption, confirm } from '../input/confirm.ts'
import { deletionOf, settleStoredTexts } from './samples.ts'

/** Adds `copal keys sampling`. */
export function addKeySampling(keys: Command, session: Session): void {
  const sampling = keys
    .command('sampling')
    .description(
      'change which requests of a key may be sampled; texts that are stored stay without --delete-texts',
    )
    .argument('<id>', 'id of the key, see npx copal keys list')
    .addArgument(new Argument('<policy>', 'which requests may be sampled').choices(samplingPolicy.options))
    .option('--delete-texts', 'delete the texts of the key that are stored')
  addYesOption(sampling)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal keys sampling key_0123456789abcdef never --delete-texts')
    .action(
      async (
        id: string,
        policy: SamplingPolicy,
        { json, deleteTexts, yes }: { json?: boolean; deleteTexts?: boolean; yes?: boolean },
      ) => {
        if (deleteTexts) await confirm(session.terminal, deletionOf({ key: id }), yes)
        const key = await session
          .client()
          .admin('PATCH', `/keys/${encodeURIComponent(id)}`, keyEntry, { sampling: policy })
        session.print(json, key, () => `Sampling of ${id}: ${key.sampling}, within half a minute.`)
        await settleStoredTexts(session, 'key', id, deleteTexts === true)
      },
    )
}
