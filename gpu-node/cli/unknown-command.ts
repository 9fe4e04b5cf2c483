import type { Command } from 'commander'
import { suggestName } from '@copal/shared/suggest-name.ts'

/**
 * Makes a command with subcommands reject unknown ones by name. Commander does so only for a command without an action
 * of its own. Call it after the subcommands were added: they inherit the setting for excess arguments.
 */
export function rejectUnknownCommands(group: Command): void {
  group.allowExcessArguments().hook('preAction', (_group, command) => {
    if (command === group) rejectUnknownCommand(group)
  })
}

function rejectUnknownCommand(command: Command): void {
  const [unknown] = command.args
  if (unknown === undefined) return
  const name = command.name()
  const known = command.commands.map((each) => each.name())
  const nearest = suggestName(unknown, known)
  const help =
    nearest === undefined
      ? `Known commands: ${known.map((each) => `${name} ${each}`).join(', ')}`
      : `Did you mean ${name} ${nearest}?`
  command.error(`error: unknown command '${name} ${unknown}'\n(${help})`)
}
