import { Command, CommanderError } from 'commander'
import manifest from './package.json' with { type: 'json' }
import { toUserError } from '@copal/gpu-node/platform/user-error.ts'
import { addCanary } from './commands/canary.ts'
import { addDomains } from './commands/domains.ts'
import { addDrift } from './commands/drift.ts'
import { addEvaluate } from './commands/evaluate.ts'
import { addGenerate } from './commands/generate.ts'
import { addKeys } from './commands/keys.ts'
import { addLab } from './commands/lab.ts'
import { addMasks, addRollback } from './commands/masks.ts'
import { addMethods } from './commands/methods.ts'
import { addDrain, addNodes } from './commands/nodes.ts'
import { addShadow } from './commands/shadow.ts'
import { addStatus } from './commands/status.ts'
import { addTenants } from './commands/tenants.ts'
import { addUpdate } from './commands/update.ts'
import { addCancel, addUpdates } from './commands/updates.ts'
import { createSession, type Session } from './api/session.ts'
import { lineWidth, type Terminal } from './output/terminal.ts'
import { refuseUnknownCommands } from './unknown-command.ts'

/** 0: done. 1: it failed. 2: the command line was wrong. */
export type ExitCode = 0 | 1 | 2

/**
 * Runs one `copal` command line.
 *
 * @param args without the program's own name.
 */
export async function runCommand(args: readonly string[], terminal: Terminal): Promise<ExitCode> {
  try {
    const program = await createProgram(createSession(terminal), { lab: args.includes('lab') })
    await program.parseAsync(helpAsOption(program, args), { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    const failure = toUserError(error, terminal.cwd)
    if (!failure) throw error
    const { code, message } = failure
    terminal.stderr.write(
      args.includes('--json') ? `${JSON.stringify({ error: { code, message } })}\n` : `copal: ${message}\n`,
    )
    return 1
  }
}

/**
 * `help lab run` as `lab run --help`: Commander's own shows the help of the first command alone. What is no command is left
 * as it is, without `help`, to be refused.
 */
function helpAsOption(program: Command, args: readonly string[]): string[] {
  if (args[0] !== 'help') return [...args]
  const names = args.slice(1)
  let command: Command | undefined = program
  for (const name of names) command = command?.commands.find((each) => each.name() === name)
  return command ? [...names, '--help'] : names
}

/**
 * Creates the command line with every command.
 *
 * @param options `lab: false` leaves out the subcommands of `copal lab`, so that the laboratory is not loaded
 */
export async function createProgram(session: Session, options = { lab: true }): Promise<Command> {
  const { stdout, stderr } = session.terminal
  const program = new Command('copal')
    .version(manifest.version, '-V, --version', 'print the version')
    .description('Serve a language model, keep it pruned on live traffic, and see what that costs.')
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      getOutHelpWidth: () => lineWidth(stdout),
      getErrHelpWidth: () => lineWidth(stderr),
    })
    .exitOverride()
    .showHelpAfterError('Run it with --help to see what it takes.')
    .addHelpText(
      'after',
      '\nExamples:\n  copal status\n  copal generate "What is resin?"\n  copal domains import legal contracts.txt\n  copal update legal\n  copal drift',
    )
  for (const add of [
    addStatus,
    addNodes,
    addDrain,
    addGenerate,
    addDomains,
    addUpdate,
    addUpdates,
    addCancel,
    addMethods,
    addMasks,
    addRollback,
    addCanary,
    addShadow,
    addDrift,
    addEvaluate,
    addLab,
    addKeys,
    addTenants,
  ]) {
    add(program, session)
  }
  const lab = program.commands.find((command) => command.name() === 'lab')
  if (options.lab && lab) {
    const { addLabCommands } = await import('./commands/lab/lab-commands.ts')
    addLabCommands(lab, session)
  }
  for (const group of program.commands.filter(({ commands }) => commands.length > 0))
    refuseUnknownCommands(group)
  // As of a shell's variable that is not set: the API would take it for the list that the name belongs to.
  return program.hook('preAction', (_program, command) => {
    const empty = command.args.indexOf('')
    if (empty >= 0) command.error(`error: argument '${nameOf(command, empty)}' is empty`)
  })
}

function nameOf({ registeredArguments }: Command, index: number): string {
  return registeredArguments[Math.min(index, registeredArguments.length - 1)]?.name() ?? ''
}
