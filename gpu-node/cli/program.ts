import { Command, CommanderError } from 'commander'
import manifest from './package.json' with { type: 'json' }
import { toUserError } from '@copal/gpu-node/platform/user-error.ts'
import { addAdvise } from './commands/advise.ts'
import { addAlerts } from './commands/alerts.ts'
import { addAudit } from './commands/audit.ts'
import { addCanary } from './commands/canary.ts'
import { addDashboard } from './commands/dashboard.ts'
import { addDomains } from './commands/domains.ts'
import { addDrift } from './commands/drift.ts'
import { addEvaluate } from './commands/evaluate.ts'
import { addGenerate } from './commands/generate.ts'
import { addHoldout } from './commands/holdout.ts'
import { addKeys } from './commands/keys.ts'
import { addLab } from './commands/lab.ts'
import { addMasks, addRollback } from './commands/masks.ts'
import { addMethods } from './commands/methods.ts'
import { addDrain, addNodes } from './commands/nodes.ts'
import { addPolicy } from './commands/policy.ts'
import { addSamples } from './commands/samples.ts'
import { addShadow } from './commands/shadow.ts'
import { addStatus } from './commands/status.ts'
import { addTenants } from './commands/tenants.ts'
import { addTop } from './commands/top.ts'
import { addTriggers } from './commands/triggers.ts'
import { addUpdate } from './commands/update.ts'
import { addCancel, addUpdates } from './commands/updates.ts'
import { createSession, type Session } from './api/session.ts'
import { printableLines } from './output/table.ts'
import { lineWidth, type Terminal } from './output/terminal.ts'
import { rejectScript, rejectUnknownCommands } from './unknown-command.ts'

/** The exit code: 0 for success, 1 for a failure, 2 for a wrong command line. */
export type ExitCode = 0 | 1 | 2

/**
 * Runs one `copal` command line.
 *
 * @param args the arguments without the program's own name
 */
export async function runCommand(args: readonly string[], terminal: Terminal): Promise<ExitCode> {
  try {
    const program = await createProgram(createSession(terminal), { lab: args.includes('lab') })
    rejectScript(program, args[0])
    await program.parseAsync(helpAsOption(program, args), { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    const failure = toUserError(error, terminal.cwd)
    if (!failure) throw error
    const { code, message } = failure
    terminal.stderr.write(
      args.includes('--json')
        ? `${JSON.stringify({ error: { code, message } })}\n`
        : `copal: ${printableLines(message)}\n`,
    )
    return 1
  }
}

/**
 * Rewrites `help lab run` to `lab run --help`, because Commander's `help` shows only the help of the first command.
 * Names that are no commands are returned without `help`, so that they are rejected as usual.
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
  const program = new Command('npx copal')
    .version(manifest.version, '-V, --version', 'print the version')
    .description('Serve a language model, keep it pruned on live traffic, and see what that costs.')
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: (text, write) => write(inPlainWords(text)),
      getOutHelpWidth: () => lineWidth(stdout),
      getErrHelpWidth: () => lineWidth(stderr),
    })
    .exitOverride()
    .showHelpAfterError('Add --help to see the arguments and options.')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal status\n  npx copal generate "What is resin?"\n  npx copal domains import legal contracts.txt\n  npx copal update legal\n  npx copal drift',
    )
  for (const add of [
    addStatus,
    addDashboard,
    addTop,
    addNodes,
    addDrain,
    addGenerate,
    addDomains,
    addHoldout,
    addUpdate,
    addUpdates,
    addCancel,
    addTriggers,
    addMethods,
    addMasks,
    addRollback,
    addPolicy,
    addCanary,
    addShadow,
    addDrift,
    addAlerts,
    addEvaluate,
    addAdvise,
    addLab,
    addKeys,
    addTenants,
    addSamples,
    addAudit,
  ]) {
    add(program, session)
  }
  const lab = program.commands.find((command) => command.name() === 'lab')
  if (options.lab && lab) {
    const { addLabCommands } = await import('./commands/lab/lab-commands.ts')
    addLabCommands(lab, session)
  }
  const groups = program.commands.filter(
    // A command that takes an argument of its own cannot tell it from a mistyped command.
    ({ commands, registeredArguments }) => commands.length > 0 && registeredArguments.length === 0,
  )
  for (const group of groups) rejectUnknownCommands(group)
  // An unset shell variable gives an empty argument, which the API would read as the path of a list.
  return program.hook('preAction', (_program, command) => {
    const empty = command.args.indexOf('')
    if (empty >= 0) command.error(`error: argument '${nameOf(command, empty)}' is empty`)
  })
}

/** Says of a wrong argument or value what Commander says twice as long. */
function inPlainWords(error: string): string {
  return error
    .replace(
      /command-argument value (.*) is invalid for argument '(.*?)'\./s,
      "argument '<$2>' does not take $1.",
    )
    .replace(/(option '.*?') argument (.*) is invalid\./s, '$1 does not take $2.')
}

function nameOf({ registeredArguments }: Command, index: number): string {
  return registeredArguments[Math.min(index, registeredArguments.length - 1)]?.name() ?? ''
}
