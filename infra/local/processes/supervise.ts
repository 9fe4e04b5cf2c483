import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { StartError } from './start-error.ts'

/** How one long-running part is started and ended. */
export interface Part {
  /** For messages: `gateway`, `node`. */
  name: string
  logPath: string
  /** A new process that leads a process group of its own. */
  spawn(): ChildProcess
  /** Asks the process to end. */
  askToEnd(child: ChildProcess): void
  /** How long it may take to end after that. */
  graceMs: number
}

/** A part that is kept running. */
export interface Supervised {
  /** Rejects when the part ends before it was ready for the first time. */
  readonly failed: Promise<never>
  /** From now on an end is a crash, and the part is started again. */
  markReady(): void
  /** Kills a part that runs but does not work; it is started again like one that crashed. */
  kill(): void
  /** Asks the part to end and starts it again at once. For parts that were ready before. */
  restart(): void
  /** Ends the part and everything in its process group. */
  stop(): Promise<void>
}

const FIRST_DELAY_MS = 500
const LONGEST_DELAY_MS = 30_000
/** A part that ran so long starts over with the shortest delay. */
const STABLE_MS = 60_000

/** Starts a part and keeps it running; `print` gets one line for each crash. */
export function supervise(part: Part, print: (line: string) => void): Supervised {
  const failure = Promise.withResolvers<never>()
  // Nobody may be listening any more once the part is ready.
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
    delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS)
  }

  function isRunning(): boolean {
    return child.exitCode === null && child.signalCode === null && child.pid !== undefined
  }

  return {
    failed: failure.promise,
    markReady() {
      ready = true
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

/** Ends at once whatever is left of a process and its group. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(process.platform === 'win32' ? child.pid : -child.pid, 'SIGKILL')
  } catch {
    // Nothing was left.
  }
}

/** The end of a text file; empty when there is none. */
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
