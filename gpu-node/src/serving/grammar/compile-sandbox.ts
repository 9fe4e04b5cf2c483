import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { AppError } from '@copal/shared/errors.ts'
import type { TrialAnswer, TrialRequest } from './compile-sandbox-protocol.ts'

/**
 * Compiles a grammar where that can be ended.
 *
 * @throws {TooCostlyError}, what the addon throws, and AppError `node_failed` when the process cannot be had
 */
export type GrammarTrial = (request: TrialRequest) => Promise<void>

/** Compiling takes more than it may. */
export class TooCostlyError extends Error {
  override readonly name = 'TooCostlyError'
}

const PROGRAM = fileURLToPath(new URL('./compile-sandbox-child.ts', import.meta.url))
/** A process that nobody needs for so long ends. */
const IDLE_MS = 60_000

/**
 * Tries grammars, one at a time, in a process that is started for the first and again after one that was too costly.
 *
 * A thread that compiles cannot be stopped; a process can, and its memory is its own. One that ends without an answer
 * says nothing of the grammar, since the system may have ended it: it is started once more, and then the node has failed.
 *
 * @param program of the process; tests give one that fails
 */
export function createGrammarTrial(program = PROGRAM): GrammarTrial {
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
    // It does not keep the node alive.
    started.unref()
    started.channel?.unref()
    return started
  }

  const attempt = async (request: TrialRequest): Promise<TrialAnswer> => {
    try {
      return await ask((child ??= start()), request)
    } catch (cause) {
      stop()
      throw new AppError('node_failed', 'The process in which this node compiles schemas fails. Try again.', {
        cause,
      })
    }
  }

  return async (request) => {
    clearTimeout(idle)
    const answer = await attempt(request).catch(() => attempt(request))
    if (answer.end === 'too costly') {
      stop()
      throw new TooCostlyError('compiling it takes too much time or memory')
    }
    idle = setTimeout(stop, IDLE_MS).unref()
    if (answer.end === 'refused') {
      const { message, code, detail } = answer
      throw Object.assign(new Error(message), { code, detail })
    }
  }
}

function ask(child: ChildProcess, request: TrialRequest): Promise<TrialAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<TrialAnswer>()
  const onEnd = () => reject(new Error('the process that compiles schemas has ended'))
  child.once('message', resolve).once('exit', onEnd).once('error', reject)
  child.channel?.ref()
  child.send(request, (error) => error && reject(error))
  return promise.finally(() => {
    child.off('message', resolve).off('exit', onEnd).off('error', reject)
    child.channel?.unref()
  })
}
