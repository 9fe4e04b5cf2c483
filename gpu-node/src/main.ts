/**
 * Runs the node process. Settings come from the environment (`settings.ts`). With an IPC channel the process reports its
 * progress to its parent (`supervisor.ts`) and ends with it; without one it prints lines for people.
 */
import { inspect } from 'node:util'
import { AppError } from '@copal/shared/errors.ts'
import { startNode, type CopalNode } from './compose.ts'
import { createLog, reasonOf, type Log } from './platform/log.ts'
import { createProcessEnd } from './platform/process-end.ts'
import { createProgressLines } from './platform/progress-lines.ts'
import { createLogExport, type LogExport } from './serving/telemetry/log-export.ts'
import { readNodeSettings } from './settings.ts'
import { createSupervisor } from './platform/supervisor.ts'
import { describeSystemError } from './platform/system-error.ts'

/** Time for the last heartbeat and receipts, after the grace period of running requests. */
const SHUTDOWN_MS = 4_000

/** Time in which a node that is still starting cleans up. */
const CLEANUP_MS = 5_000

const supervisor = createSupervisor(process)
const write = (line: string) => void process.stderr.write(`${line}\n`)
/** Log format until the settings are read, and when they name none. */
const defaultFormat = process.stderr.isTTY ? 'plain' : 'json'
let log: Log = createLog({ format: defaultFormat, write })
const starting = new AbortController()
let node: CopalNode | undefined
let logExport: LogExport | null = null
/** Time that running requests have to finish when the node is stopped. */
let graceMs = 0

/** Handles an uncaught error, which is a defect: logs it in full and ends the process, whose state is unknown. */
function die(thrown: unknown): void {
  log.error('the node ends after an unexpected error', { reason: inspect(thrown) })
  const reported = node ? Promise.resolve() : supervisor.tell({ type: 'failed', message: reasonOf(thrown) })
  void reported.then(() => process.exit(1))
}

const processEnd = createProcessEnd({
  async stop(why, maxGraceMs) {
    log.info('stopping', { why })
    // Child processes end with this one, so a part that hangs loses only its last reports.
    const limitMs = (node ? maxGraceMs : CLEANUP_MS) + SHUTDOWN_MS
    setTimeout(() => process.exit(processEnd.exitCode()), limitMs).unref()
    starting.abort(new AppError('no_node_available', `The node was stopped while it started (${why}).`))
    await node?.stop(maxGraceMs)
    await logExport?.shutdown()
    // While the node starts, `main` ends the process after its cleanup.
    return node !== undefined
  },
  onFailure: (reason) => log.error('the node ends, for its supervisor to start it again', { reason }),
  exit: (code) => process.exit(code),
})

async function main(): Promise<void> {
  const settings = readNodeSettings(process.env)
  graceMs = settings.graceMs
  logExport = createLogExport(settings.otel)
  log = createLog({
    format: settings.logFormat ?? defaultFormat,
    write,
    onRecord: (record) => logExport?.add(record),
  })
  const lines = createProgressLines(write)
  node = await startNode(settings, {
    log,
    signal: starting.signal,
    fail: (reason) => processEnd.fail(reason),
    onProgress(progress) {
      // Printed too, because some parents only pass on printed lines, such as that of `npm run node`.
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
process.on('SIGTERM', () => void processEnd.end('SIGTERM', graceMs))
process.on('SIGINT', () => void processEnd.end('SIGINT', graceMs))
supervisor.onGone(() => void processEnd.end('the supervisor is gone', 0))

try {
  await main()
} catch (error) {
  if (processEnd.isEnding()) process.exit(processEnd.exitCode())
  // The message of an expected failure tells the user what to do, and needs no stack.
  const systemError = describeSystemError(error, process.cwd())
  const otherMessage = systemError === undefined ? reasonOf(error) : `${systemError}.`
  const message = error instanceof AppError && error.code !== 'internal_error' ? error.message : otherMessage
  if (supervisor.present) log.error('the node cannot start', { reason: message })
  else write(`copal node: ${message}`)
  await supervisor.tell({ type: 'failed', message })
  process.exit(1)
}
