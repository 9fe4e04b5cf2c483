import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { pidsInGroup } from './process-group.ts'
import { StartError } from './start-error.ts'

/** How a long-running part of the service is started and ended. */
export interface Part {
  /** For messages: `gateway`, `node`. */
  name: string
  logPath: string
  /** Starts a process as the leader of a new process group. */
  spawn(): ChildProcess
  /** Asks the process to end. */
  askToEnd(child: ChildProcess): void
  /** How long the process may take to end before it is killed. */
  graceMs: number
}

/** A part that is restarted when it ends. */
export interface Supervised {
  /** Rejects when the part ends before it was ready for the first time. */
  readonly failed: Promise<never>
  /** Marks the part as ready. From now on its end is a crash, and it is started again. */
  markReady(): void
  /** Returns the id of its process; undefined while none runs. Another id means that it was started again. */
  pid(): number | undefined
  /** Returns the ids of the running processes of a name in its process group; undefined where the system does not tell. */
  pids(name: string): readonly number[] | undefined
  /** Sends a message to a part that has a channel; it is lost while the part does not run. */
  send(message: object): void
  /** Kills a part that runs but does not work; it is started again like one that crashed. */
  kill(): void
  /** Asks the part to end and starts it again at once. For parts that were ready before. */
  restart(): void
  /** Ends the part and everything in its process group. */
  stop(): Promise<void>
}

const FIRST_DELAY_MS = 500
const MAX_DELAY_MS = 30_000
/** After this time a part counts as stable, and the delay before its next restart is the first one again. */
const STABLE_MS = 60_000

/**
 * Starts a part and keeps it running.
 *
 * @param print receives one line for each crash
 */
export function supervise(part: Part, print: (line: string) => void): Supervised {
  const failure = Promise.withResolvers<never>()
  // There may be no listener any more once the part is ready.
  failure.promise.catch(() => undefined)
  let ready = false
  let stopping = false
  let restarting = false
  let delayMs = FIRST_DELAY_MS
  let timer: NodeJS.Timeout | undefined
  let child = start()

  function start(): ChildProcess {
    const startedMs = performance.now()
    const started = part.spawn()
    // Stays for the life of the process: an error event without a listener would end the supervisor.
    started.on('error', (cause) => {
      failure.reject(new StartError(`The ${part.name} cannot be started: ${cause.message}.`, { cause }))
      // A process that was never created emits no exit event.
      if (started.pid === undefined && ready && !stopping) retryLater(`cannot be started: ${cause.message}`)
    })
    started.once('exit', (code, signal) => {
      killGroup(started)
      if (stopping) return
      if (restarting) {
        startNow()
        return
      }
      const how = signal ?? `exit code ${code}`
      if (!ready) {
        const tail = lastLines(part.logPath, 8)
        failure.reject(
          new StartError(
            `The ${part.name} ended while it started (${how}). Its log, ${part.logPath}, ends:\n${tail}`,
          ),
        )
        return
      }
      if (performance.now() - startedMs > STABLE_MS) delayMs = FIRST_DELAY_MS
      retryLater(`ended (${how})`)
    })
    return started
  }

  function startNow(): void {
    clearTimeout(timer)
    restarting = false
    delayMs = FIRST_DELAY_MS
    child = start()
  }

  function retryLater(what: string): void {
    print(`The ${part.name} ${what}; starting it again in ${delayMs / 1000} s. Log: ${part.logPath}`)
    clearTimeout(timer)
    timer = setTimeout(() => {
      child = start()
    }, delayMs)
    delayMs = Math.min(delayMs * 2, MAX_DELAY_MS)
  }

  function isRunning(): boolean {
    return child.exitCode === null && child.signalCode === null && child.pid !== undefined
  }

  return {
    failed: failure.promise,
    markReady() {
      ready = true
    },
    pid: () => (isRunning() ? child.pid : undefined),
    pids: (name) => (child.pid === undefined ? [] : pidsInGroup(child.pid, name)),
    send(message) {
      if (child.connected) child.send(message, () => undefined)
    },
    kill: () => killGroup(child),
    restart() {
      if (stopping || restarting) return
      if (!isRunning()) {
        startNow()
        return
      }
      restarting = true
      const ending = child
      part.askToEnd(ending)
      const kill = setTimeout(() => killGroup(ending), part.graceMs)
      ending.once('exit', () => clearTimeout(kill))
    },
    async stop() {
      stopping = true
      clearTimeout(timer)
      if (isRunning()) {
        const ended = once(child, 'exit')
        part.askToEnd(child)
        const kill = setTimeout(() => killGroup(child), part.graceMs)
        await ended
        clearTimeout(kill)
      }
      killGroup(child)
    },
  }
}

/** Kills what is left of a process and its group. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(process.platform === 'win32' ? child.pid : -child.pid, 'SIGKILL')
  } catch {
    // All have ended already.
  }
}

/** Returns the last lines of a text file; empty when it does not exist. */
export function lastLines(path: string, count: number): string {
  const TAIL_BYTES = 8192
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    return ''
  }
  try {
    const { size } = fstatSync(file)
    const tail = Buffer.alloc(Math.min(TAIL_BYTES, size))
    readSync(file, tail, 0, tail.length, size - tail.length)
    return tail.toString('utf8').trimEnd().split('\n').slice(-count).join('\n')
  } finally {
    closeSync(file)
  }
}
