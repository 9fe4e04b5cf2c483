/**
 * The node process. Settings come from the environment (`settings.ts`). With an IPC channel it tells its parent
 * how far it is (`supervisor.ts`) and ends when the parent does; without one it prints lines for people.
 */
import { inspect } from 'node:util'
import { AppError } from '@copal/shared/errors.ts'
import { startNode, type CopalNode } from './compose.ts'
import { createLog, reasonOf, type Log } from './platform/log.ts'
import { createProgressLines } from './platform/progress-lines.ts'
import { readNodeSettings } from './settings.ts'
import { createSupervisor } from './platform/supervisor.ts'
import { describeSystemError } from './platform/system-error.ts'

/** Time for the last heartbeat and receipts, behind the grace that running requests have. */
const LAST_WORDS_MS = 4_000

/** Time for a node that has not started yet to undo what it did. */
const UNDO_MS = 5_000

const supervisor = createSupervisor(process)
const write = (line: string) => void process.stderr.write(`${line}\n`)
/** Until the settings are read, and where they do not say. */
const usualFormat = process.stderr.isTTY ? 'plain' : 'json'
let log: Log = createLog({ format: usualFormat, write })
const starting = new AbortController()
let node: CopalNode | undefined
let ending = false
/** How long running requests may go on when the node is asked to end. */
let graceMs = 0

/** What nobody caught is a defect: it is logged whole, and the process does not go on in an unknown state. */
function die(thrown: unknown): void {
  log.error('the node ends after an unexpected error', { reason: inspect(thrown) })
  const told = node ? Promise.resolve() : supervisor.tell({ type: 'failed', message: reasonOf(thrown) })
  void told.then(() => process.exit(1))
}

async function end(why: string, mostMs: number): Promise<void> {
  if (ending) return
  ending = true
  log.info('stopping', { why })
  // Child processes end with this one, so a part that hangs costs nothing but its last words.
  setTimeout(() => process.exit(0), (node ? mostMs : UNDO_MS) + LAST_WORDS_MS).unref()
  starting.abort(new AppError('no_node_available', `The node was stopped while it started (${why}).`))
  await node?.stop(mostMs)
  // While it starts, `main` ends the process after it has cleaned up.
  if (node) process.exit(0)
}

async function main(): Promise<void> {
  const settings = readNodeSettings(process.env)
  graceMs = settings.graceMs
  log = createLog({ format: settings.logFormat ?? usualFormat, write })
  const lines = createProgressLines(write)
  node = await startNode(settings, {
    log,
    signal: starting.signal,
    onProgress(progress) {
      // Not every parent shows it: that of `npm run node` only passes on what is printed.
      lines(progress)
      void supervisor.tell({ type: 'progress', progress })
    },
  })
  const { url, nodeId, model } = node
  const activeVersion = node.activeVersion()
  log.info('serving', { url, nodeId, model, activeVersion })
  await supervisor.tell({ type: 'ready', url, nodeId, model, activeVersion })
}

process.on('uncaughtException', die)
process.on('unhandledRejection', die)
process.on('SIGTERM', () => void end('SIGTERM', graceMs))
process.on('SIGINT', () => void end('SIGINT', graceMs))
supervisor.onGone(() => void end('the supervisor is gone', 0))

try {
  await main()
} catch (error) {
  if (ending) process.exit(0)
  // An expected failure is for the user to mend: its message says how, and no stack is needed.
  const refused = describeSystemError(error, process.cwd())
  const unexpected = refused === undefined ? reasonOf(error) : `${refused}.`
  const message = error instanceof AppError && error.code !== 'internal_error' ? error.message : unexpected
  if (supervisor.present) log.error('the node cannot start', { reason: message })
  else write(`copal node: ${message}`)
  await supervisor.tell({ type: 'failed', message })
  process.exit(1)
}
