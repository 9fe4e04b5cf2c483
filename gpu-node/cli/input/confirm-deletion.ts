import type { Command } from 'commander'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Terminal } from '../output/terminal.ts'

/** Adds the option that skips the question of {@link confirmDeletion}. */
export function addYesOption(command: Command): Command {
  return command.option('-y, --yes', 'delete without asking')
}

/**
 * Asks the person at the terminal whether to delete something for good.
 *
 * @param what what is deleted: `the domain legal with all its texts`
 * @param yes whether `--yes` was given: then nobody is asked
 * @throws UserError `not_confirmed` if the answer is not yes, or nobody can be asked
 */
export async function confirmDeletion(
  { ask }: Pick<Terminal, 'ask'>,
  what: string,
  yes: boolean | undefined,
): Promise<void> {
  if (yes) return
  if (!ask)
    throw new UserError(
      'not_confirmed',
      `Nothing was deleted. This deletes ${what}, and nobody can be asked without a terminal. Run it with --yes.`,
    )
  const answer = await ask(`Delete ${what}? This cannot be undone. [y/N] `)
  if (!/^y(es)?$/i.test(answer.trim())) throw new UserError('not_confirmed', 'Nothing was deleted.')
}
