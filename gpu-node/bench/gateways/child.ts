import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { lastLines } from '../../../infra/local/processes/supervise.ts'
import { closeSync, openSync } from 'node:fs'

/** How long a process may take to be ready; LiteLLM loads for minutes on a busy machine. */
const START_TIMEOUT_MS = 600_000
const END_TIMEOUT_MS = 5_000

/** A child process that runs one of our files and exchanges messages with us over IPC. */
export class IpcChild<Message extends object> {
  readonly process: ChildProcess

  constructor(file: string) {
    this.process = fork(join(import.meta.dirname, file), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  }

  /**
   * Sends a request, if there is one, and waits for the next message.
   *
   * @throws Error when the message is an error, or when the process ends instead
   */
  async ask(request?: object): Promise<Exclude<Message, { error: string }>> {
    const gone = new AbortController()
    const ended = once(this.process, 'exit', { signal: gone.signal }).then(([code]) => ({
      error: `it ended with ${String(code)}`,
    }))
    ended.catch(() => undefined)
    const received = once(this.process, 'message', { signal: gone.signal }).then(
      ([message]) => message as Message,
    )
    if (request) this.process.send(request)
    try {
      const message = await Promise.race([received, ended])
      if ('error' in message) throw new Error(`${this.process.spawnargs.at(-1)}: ${message.error}`)
      return message as Exclude<Message, { error: string }>
    } finally {
      gone.abort()
      received.catch(() => undefined)
    }
  }

  async stop(): Promise<void> {
    await end(this.process)
  }
}

/**
 * Starts another program's server and waits until it responds.
 *
 * @throws Error with the end of its output when it ends or is not ready in time
 */
export async function startServer(options: {
  command: string
  args: readonly string[]
  env: Record<string, string>
  logPath: string
  readyUrl: string
}): Promise<ChildProcess> {
  const { command, args, env, logPath, readyUrl } = options
  const log = openSync(logPath, 'a')
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', log, log] })
  closeSync(log)
  let failure: Error | undefined
  child.once('error', (error) => (failure = error))
  const untilMs = performance.now() + START_TIMEOUT_MS
  for (;;) {
    const response = await fetch(readyUrl).catch(() => undefined)
    await response?.body?.cancel()
    if (response?.ok) return child
    if (failure || child.exitCode !== null || performance.now() > untilMs) {
      await end(child)
      const why =
        failure?.message ?? (child.exitCode === null ? 'is not ready' : `ended with ${child.exitCode}`)
      throw new Error(`${command} ${why}:\n${lastLines(logPath, 12)}`)
    }
    await sleep(200)
  }
}

/** Asks a process to end, and kills it if it does not. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), END_TIMEOUT_MS)
  await gone
  clearTimeout(timer)
}
