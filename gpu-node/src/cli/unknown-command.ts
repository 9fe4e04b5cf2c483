import type { Command } from 'commander'
import { nearestName } from '@copal/shared/nearest-name.ts'

/**
 * For the action of a command that has commands below it: Commander names unknown ones only where the command itself does
 * nothing. It needs `allowExcessArguments`.
 *
 * @throws CommanderError where something follows the command that is none
 */
export function refuseUnknownCommand(command: Command): void {
  const [unknown] = command.args
  if (unknown === undefined) return
  const name = command.name()
  const known = command.commands.map((each) => each.name())
  const nearest = nearestName(unknown, known)
  const help =
    nearest === undefined
      ? `There are: ${known.map((each) => `${name} ${each}`).join(', ')}`
      : `Did you mean ${name} ${nearest}?`
  command.error(`error: unknown command '${name} ${unknown}'\n(${help})`)
}
