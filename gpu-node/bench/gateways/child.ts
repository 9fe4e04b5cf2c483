import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { lastLines } from '../../../infra/local/processes/supervise.ts'
import { closeSync, openSync } from 'node:fs'

/** How long a process may take to be ready: LiteLLM imports for long on a busy machine. */
const START_MS = 600_000
const END_MS = 5_000

/** One of our own files as a process, which says what it has to say by IPC. */
export class TalkingChild<Said extends object> {
  readonly process: ChildProcess

  constructor(file: string) {
    this.process = fork(join(import.meta.dirname, file), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  }

  /**
   * Sends it something, and waits for what it says next.
   *
   * @throws Error with what it says went wrong, or when it ends instead
   */
  async ask(question?: object): Promise<Exclude<Said, { error: string }>> {
    const gone = new AbortController()
    const ended = once(this.process, 'exit', { signal: gone.signal }).then(([code]) => ({
      error: `it ended with ${String(code)}`,
    }))
    ended.catch(() => undefined)
    const said = once(this.process, 'message', { signal: gone.signal }).then(([message]) => message as Said)
    if (question) this.process.send(question)
    try {
      const answer = await Promise.race([said, ended])
      if ('error' in answer) throw new Error(`${this.process.spawnargs.at(-1)}: ${answer.error}`)
      return answer as Exclude<Said, { error: string }>
    } finally {
      gone.abort()
      said.catch(() => undefined)
    }
  }

  async stop(): Promise<void> {
    await end(this.process)
  }
}

/**
 * Starts a foreign server and waits until it answers.
 *
 * @throws Error with the end of its output when it ends, or is not ready in time
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
  const untilMs = performance.now() + START_MS
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

/** Ends a process, by force when asking does not help. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), END_MS)
  await gone
  clearTimeout(timer)
}
