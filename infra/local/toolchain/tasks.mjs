/** The tasks that npm runs by name. */
import { SetupError } from './toolchain.mjs'

/**
 * Options of Node for a process that serves tokens. By default four threads of V8 collect garbage beside the engine's threads,
 * which have a processor each: while a full collection marked, steps took up to five times as long. With one thread, three times.
 */
export const SERVING_OPTIONS = ['--v8-pool-size=1']

/**
 * The file of each task and the text of its `--help`. `options` are those of Node. `takes` names its arguments, which are all
 * required; `rest` describes arguments that it passes on to another program; `settings` are environment variables. A task with
 * `ownHelp` parses its command line itself.
 */
const TASKS = {
  start: {
    file: 'infra/local/start/start.ts',
    does: 'Starts the gateway and a node, and keeps them running.',
    settings: [
      'COPAL_PORT',
      'COPAL_NODE_PORT',
      'COPAL_HOME',
      'COPAL_CACHE',
      'COPAL_MODEL',
      'COPAL_FIRST_UPDATE',
    ],
  },
  test: {
    file: 'infra/local/test/test.ts',
    does: 'Runs the tests.',
    rest: 'arguments of vitest (npx vitest --help)',
  },
  'test:gpu': {
    file: 'infra/local/test/test-gpu.ts',
    does: 'Runs every test that needs a GPU, on the first device found; a software driver takes long.',
    rest: 'arguments of vitest (npx vitest --help)',
  },
  'test:sanitize': {
    file: 'infra/local/test/sanitize.ts',
    does: 'Runs the Rust tests under AddressSanitizer.',
    rest: 'arguments of cargo test (cargo test --help)',
  },
  dev: {
    file: 'infra/local/start/dev.ts',
    does: 'Starts the gateway and a node with debugger ports, and restarts each when its sources change.',
    settings: [
      'COPAL_PORT',
      'COPAL_NODE_PORT',
      'COPAL_HOME',
      'COPAL_CACHE',
      'COPAL_MODEL',
      'COPAL_FIRST_UPDATE',
    ],
  },
  demo: { file: 'infra/local/demo/demo.ts', ownHelp: true },
  bench: { file: 'gpu-node/bench/main.ts', options: SERVING_OPTIONS, ownHelp: true },
  'lab:texts': {
    file: 'gpu-node/lab/texts/report-texts.ts',
    does: "Writes the texts of the laboratory's report, or those of the named domains, of pinned npm packages.",
    takes: ['directory'],
    more: 'domain',
  },
  check: {
    file: 'infra/local/check/check.ts',
    does: 'Checks formatting, lint, types, package boundaries and dead code.',
  },
  deploy: {
    file: 'infra/deploy/deploy.ts',
    does: 'Migrates the database and deploys the Worker to Cloudflare.',
    rest: 'arguments of wrangler deploy (npx wrangler deploy --help)',
  },
  node: {
    file: 'gpu-node/src/main.ts',
    options: SERVING_OPTIONS,
    does: 'Runs only a node, for a gateway that runs elsewhere.',
    settings: [
      'COPAL_GATEWAY_URL',
      'COPAL_NODE_SECRET',
      'COPAL_NODE_URL',
      'COPAL_NODE_HOST',
      'COPAL_NODE_PORT',
      'COPAL_HOME',
      'COPAL_CACHE',
      'COPAL_MODEL',
    ],
  },
}

/**
 * Parses the command line of a task.
 *
 * @returns the task, its file, arguments and options of Node; or its help, if the user asked for it
 * @throws {SetupError} for an unknown task and for arguments that it does not take
 */
export function readTask([name, ...args]) {
  const task = Object.hasOwn(TASKS, name ?? '') ? TASKS[name] : undefined
  if (task === undefined)
    throw new SetupError(`Unknown task '${name ?? ''}'. Known tasks: ${Object.keys(TASKS).join(', ')}.`)
  const { file, options = [], takes = [], more, rest, ownHelp, settings = [] } = task
  if (ownHelp) return { name, file, args, options }
  if (args.includes('--help') || args.includes('-h')) return { help: helpOf(name, task) }
  if (rest !== undefined) return { name, file, args, options }
  const stray = args.find(
    (arg, index) => arg.startsWith('-') || (index >= takes.length && more === undefined),
  )
  if (stray !== undefined)
    throw new SetupError(`${call(name)} does not take '${stray}'.${advice(name, stray, args, settings)}`)
  if (args.length < takes.length)
    throw new SetupError(`Missing argument '${takes[args.length]}': ${usage(name, task)}`)
  return { name, file, args, options }
}

/** Returns the variable that an option like `--port 9000` should be, or a pointer to the help. */
function advice(name, stray, args, settings) {
  const [option, value = args[args.indexOf(stray) + 1]] = stray.split('=')
  const variable = `COPAL_${option.replace(/^-+/, '').replaceAll('-', '_').toUpperCase()}`
  if (settings.includes(variable)) return ` Set ${variable}: ${variable}=${value ?? '…'} ${call(name)}`
  return ` See: ${call(name)} -- --help`
}

function helpOf(name, task) {
  const lines = [`Usage: ${usage(name, task)}`, '', task.does]
  if (task.rest) lines.push(`Arguments: ${task.rest}.`)
  if (task.settings)
    lines.push(
      '',
      'Environment variables that set it (docs/configuration.md has all of them):',
      `  ${task.settings.join('\n  ')}`,
    )
  if (task.settings?.includes('COPAL_PORT')) lines.push('', `Example: COPAL_PORT=9000 ${call(name)}`)
  return lines.join('\n')
}

function usage(name, { takes = [], more, rest }) {
  const args = [
    ...takes.map((arg) => `<${arg}>`),
    ...(more ? [`[${more} …]`] : []),
    ...(rest ? ['[arguments]'] : []),
  ]
  return [call(name), ...(args.length > 0 ? ['--', ...args] : [])].join(' ')
}

function call(name) {
  return name === 'start' || name === 'test' ? `npm ${name}` : `npm run ${name}`
}
