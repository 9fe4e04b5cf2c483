/**
 * Runs the node process. Settings come from the environment (`settings.ts`). With an IPC channel the process reports its
 * progress to its parent (`supervisor.ts`) and ends with it; without one it prints lines for people.
 */
import { inspect } from 'node:util'
import { AppError } from '@copal/shared/errors.ts'
import { startNode, type CopalNode } from './compose.ts'
import { createLog, reasonOf, type Log, type LogFormat } from './platform/log.ts'
import { createProcessEnd, killThisProcess } from './platform/process-end.ts'
import { createProgressLines } from './platform/progress-lines.ts'
import { createCallWatch } from './serving/backends/gpu/call-watch.ts'
import { createLogExport, type LogExport } from './serving/telemetry/log-export.ts'
import { readNodeSettings } from './settings.ts'
import { createSupervisor } from './platform/supervisor.ts'
import { describeSystemError } from './platform/system-error.ts'
import { withTimeout } from './platform/timeout.ts'

/** Time for the last heartbeat, receipts and telemetry, and the end of weights, after the grace period of running requests. */
const SHUTDOWN_MS = 5_500

/** Time in which a node that is still starting cleans up. */
const CLEANUP_MS = 5_000

/** Time in which a process that failed sends its last log lines. */
const LAST_LINES_MS = 1_500

const supervisor = createSupervisor(process)
const write = (line: string) => void process.stderr.write(`${line}\n`)
/** Log format until the settings are read, and when they name none. */
const defaultFormat = process.stderr.isTTY ? 'plain' : 'json'
let logExport: LogExport | null = null
let log: Log = openLog(defaultFormat, write)
const starting = new AbortController()
let node: CopalNode | undefined
/** Time that running requests have to finish when the node is stopped. */
let graceMs = 0

/** Creates a log whose records go to the collector too, once there is one. */
function openLog(format: LogFormat, writeLine: (line: string) => void): Log {
  return createLog({ format, write: writeLine, onRecord: (record) => logExport?.add(record) })
}

function onGpuGone(error: Error): void {
  processEnd.fail(`the GPU cannot be used again by this process: ${reasonOf(error)}`)
}
const gpuCalls = createCallWatch(onGpuGone)

/** Ends the process. It is killed while a call of the GPU has not returned, because that may hang. */
function exit(code: number): void {
  if (gpuCalls.isRunning()) killThisProcess()
  else process.exit(code)
}

/** Sends the log lines that wait, so that a collector has those that say why the process ends. */
async function sendLastLines(): Promise<void> {
  if (logExport) await withTimeout(logExport.shutdown(), LAST_LINES_MS)
}

/** Whether an unexpected error ends the process. */
let isDying = false

/**
 * Handles an uncaught error, which is a defect: logs it in full and ends the process, whose state is unknown. While its last lines
 * are sent it computes nothing and takes no requests. Errors that follow from the first one are not told.
 */
function die(thrown: unknown): void {
  if (isDying) return
  isDying = true
  log.error('the node ends after an unexpected error', { reason: inspect(thrown) })
  const told = node ? undefined : supervisor.tell({ type: 'failed', message: reasonOf(thrown) })
  const end = () => exit(1)
  // The defect may be in what sends the lines.
  void Promise.all([told, sendLastLines()]).then(end, end)
  starting.abort()
  try {
    node?.halt()
  } catch {
    // It may follow from the first error.
  }
}

const processEnd = createProcessEnd({
  async stop(why, maxGraceMs) {
    log.info('stopping', { why, graceMs: maxGraceMs })
    // Child processes end with this one, so a part that hangs loses only its last reports. It may hang in any thread.
    const limitMs = (node ? maxGraceMs : CLEANUP_MS) + SHUTDOWN_MS
    setTimeout(killThisProcess, limitMs).unref()
    starting.abort(new AppError('no_node_available', `The node was stopped while it started (${why}).`))
    await node?.stop(maxGraceMs)
    await logExport?.shutdown()
    // While the node starts, `main` ends the process after its cleanup.
    return node !== undefined
  },
  onFailure: (reason) => log.error('the node ends, for its supervisor to start it again', { reason }),
  exit,
})

async function main(): Promise<void> {
  const settings = readNodeSettings(process.env)
  graceMs = settings.graceMs
  logExport = createLogExport(settings.otel)
  log = openLog(settings.logFormat ?? defaultFormat, write)
  const lines = createProgressLines(write)
  node = await startNode(settings, {
    log,
    signal: starting.signal,
    gpuCalls,
    onGpuGone,
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

/** Reports why the node cannot start. The message of an expected failure tells the user what to do, and needs no stack. */
async function reportFailedStart(error: unknown): Promise<void> {
  const systemError = describeSystemError(error, process.cwd())
  const otherMessage = systemError === undefined ? reasonOf(error) : `${systemError}.`
  const message = error instanceof AppError && error.code !== 'internal_error' ? error.message : otherMessage
  // A person reads the message alone.
  const shown = supervisor.present ? log : openLog(defaultFormat, () => write(`copal node: ${message}`))
  shown.error('the node cannot start', { reason: message })
  await supervisor.tell({ type: 'failed', message })
  await sendLastLines()
}

try {
  await main()
} catch (error) {
  if (processEnd.isEnding()) exit(processEnd.exitCode())
  else if (!isDying) {
    await reportFailedStart(error)
    exit(1)
  }
}
