import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { AppError } from '@copal/shared/errors.ts'
import {
  COMPILE_LIMITS,
  type SandboxGrammar,
  type SandboxRequest,
  type SandboxResult,
} from './compile-sandbox-protocol.ts'

/**
 * Compiles a grammar in a process that can be killed.
 *
 * @throws {TooCostlyError}, the error of the addon, or AppError `node_failed` when the process fails
 */
export type CompileSandbox = (grammar: SandboxGrammar) => Promise<void>

/** The error for a grammar whose compilation exceeds the limits. */
export class TooCostlyError extends Error {
  override readonly name = 'TooCostlyError'
}

const PROGRAM = fileURLToPath(new URL('./compile-sandbox-child.ts', import.meta.url))
/** Idle time after which the process ends. */
const IDLE_MS = 60_000
/** Time without a result after which the process counts as hanging: it may use few seconds of a processor that is busy. */
const HANG_MS = 300_000

/**
 * Creates the sandbox, which compiles grammars one at a time. Its process starts with the first grammar, and again after
 * one that was too costly.
 *
 * A compiling thread cannot be stopped; a process can, and has its own memory. A process that ends without a result, or hangs,
 * says nothing about the grammar, because the system may have killed it. It is started once more; if that fails too, the call
 * fails with `node_failed`.
 *
 * @param program path of the process's program; tests pass one that fails
 * @param limits of each grammar; tests pass lower ones
 * @param hangMs time after which a process without a result is killed; tests pass a shorter one
 */
export function createCompileSandbox(
  program = PROGRAM,
  limits = COMPILE_LIMITS,
  hangMs = HANG_MS,
): CompileSandbox {
  let child: ChildProcess | undefined
  let idle: NodeJS.Timeout | undefined

  const stop = () => {
    child?.kill('SIGKILL')
    child = undefined
  }
  const start = (): ChildProcess => {
    const started = fork(program, [], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const forget = () => {
      if (child === started) child = undefined
    }
    started.once('exit', forget).on('error', forget)
    // The process must not keep the node alive.
    started.unref()
    started.channel?.unref()
    return started
  }

  const attempt = async (request: SandboxRequest): Promise<SandboxResult> => {
    try {
      return await ask((child ??= start()), request, hangMs)
    } catch (cause) {
      stop()
      throw new AppError('node_failed', 'The process that compiles schemas on this node failed. Try again.', {
        cause,
      })
    }
  }

  return async (grammar) => {
    clearTimeout(idle)
    const request = { ...grammar, limits }
    const result = await attempt(request).catch(() => attempt(request))
    if (result.outcome === 'too costly') {
      stop()
      throw new TooCostlyError('compiling it takes too much time or memory')
    }
    idle = setTimeout(stop, IDLE_MS).unref()
    if (result.outcome === 'rejected') {
      const { message, code, detail } = result
      throw Object.assign(new Error(message), { code, detail })
    }
  }
}

function ask(child: ChildProcess, request: SandboxRequest, hangMs: number): Promise<SandboxResult> {
  const { promise, resolve, reject } = Promise.withResolvers<SandboxResult>()
  const onExit = () => reject(new Error('the process that compiles schemas has ended'))
  child.once('message', resolve).once('exit', onExit).once('error', reject)
  const timer = setTimeout(
    () => reject(new Error(`the process that compiles schemas sent nothing for ${hangMs / 1000} s`)),
    hangMs,
  )
  child.channel?.ref()
  child.send(request, (error) => error && reject(error))
  return promise.finally(() => {
    clearTimeout(timer)
    child.off('message', resolve).off('exit', onExit).off('error', reject)
    child.channel?.unref()
  })
}
