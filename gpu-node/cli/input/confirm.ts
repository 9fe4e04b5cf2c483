import type { Command } from 'commander'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Terminal } from '../output/terminal.ts'

/** Adds the option that skips the question of {@link confirm}. */
export function addYesOption(command: Command, verb = 'delete'): Command {
  return command.option('-y, --yes', `${verb} without asking`)
}

/**
 * Asks the person at the terminal whether to do something that cannot be undone.
 *
 * @param deed what is done: `delete the domain legal with all its texts`
 * @param yes whether `--yes` was given: then nobody is asked
 * @throws UserError `not_confirmed` if the answer is not yes, or nobody can be asked
 */
export async function confirm(
  { ask }: Pick<Terminal, 'ask'>,
  deed: string,
  yes: boolean | undefined,
): Promise<void> {
  if (yes) return
  if (!ask)
    throw new UserError(
      'not_confirmed',
      `Nothing was changed. There is no terminal to ask at. To ${deed}, add --yes.`,
    )
  const question = `${deed.charAt(0).toUpperCase()}${deed.slice(1)}? This cannot be undone. [y/N] `
  const answer = await ask(question)
  if (!/^y(es)?$/i.test(answer.trim())) throw new UserError('not_confirmed', 'Nothing was changed.')
}
