import type { Command } from 'commander'
import { suggestName } from '@copal/shared/suggest-name.ts'

/**
 * Has a command with commands below it name unknown ones; Commander does only where the command itself does nothing. For
 * when those below are there: they would let anything follow them else.
 */
export function refuseUnknownCommands(group: Command): void {
  group.allowExcessArguments().hook('preAction', (_group, command) => {
    if (command === group) refuseUnknownCommand(group)
  })
}

function refuseUnknownCommand(command: Command): void {
  const [unknown] = command.args
  if (unknown === undefined) return
  const name = command.name()
  const known = command.commands.map((each) => each.name())
  const nearest = suggestName(unknown, known)
  const help =
    nearest === undefined
      ? `There are: ${known.map((each) => `${name} ${each}`).join(', ')}`
      : `Did you mean ${name} ${nearest}?`
  command.error(`error: unknown command '${name} ${unknown}'\n(${help})`)
}
