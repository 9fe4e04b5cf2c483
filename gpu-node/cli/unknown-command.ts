import type { Command } from 'commander'
import { suggestName } from '@copal/shared/suggest-name.ts'

/** Words for a list in other programs. */
const LISTS = ['list', 'ls', 'show', 'get']
/** The commands that people mean by names that `copal` does not know. */
const SCRIPTS: Readonly<Record<string, readonly string[]>> = {
  start: ['npm start'],
  demo: ['npm run demo'],
  node: ['npx copal nodes', 'npm run node'],
  login: ['npx copal dashboard'],
  open: ['npx copal dashboard'],
}

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
  command.error(`error: unknown command '${name} ${unknown}'\n(${adviceFor(command, unknown)})`)
}

function adviceFor(command: Command, unknown: string): string {
  const name = command.name()
  const known = command.commands.map((each) => each.name())
  const nearest = suggestName(unknown, known)
  if (nearest !== undefined) return `Did you mean ${name} ${nearest}?`
  if (command.parent?.commands.some((each) => each.name() === unknown))
    return `Did you mean 'npx copal ${unknown}'?`
  const commands = known.map((each) => `${name} ${each}`).join(', ')
  return LISTS.includes(unknown)
    ? `Did you mean 'npx copal ${name}'? It lists them.`
    : `Known commands: ${commands}`
}

/** Rejects a name that is a command of the checkout, or would be one of another service, and names what is meant. */
export function rejectScript(program: Command, name: string | undefined): void {
  if (name === undefined || !Object.hasOwn(SCRIPTS, name)) return
  const meant = SCRIPTS[name]?.map((command) => `'${command}'`).join(' or ')
  program.error(`error: unknown command '${name}'\n(Did you mean ${meant}?)`)
}
