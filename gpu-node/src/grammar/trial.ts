import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { TrialAnswer, TrialRequest } from './trial-protocol.ts'

/** Compiles a grammar where that can be ended. @throws {TooCostlyError} and what the addon throws */
export type GrammarTrial = (request: TrialRequest) => Promise<void>

/** Compiling takes more than it may, or ended its process. */
export class TooCostlyError extends Error {
  override readonly name = 'TooCostlyError'
}

const PROGRAM = fileURLToPath(new URL('./trial-child.ts', import.meta.url))
/** A process that nobody needs for so long ends. */
const IDLE_MS = 60_000

/**
 * Tries grammars, one at a time, in a process that is started for the first and again after one that was too costly.
 *
 * A thread that compiles cannot be stopped; a process can, and its memory is its own.
 */
export function createGrammarTrial(): GrammarTrial {
  let child: ChildProcess | undefined
  let idle: NodeJS.Timeout | undefined

  const stop = () => {
    child?.kill('SIGKILL')
    child = undefined
  }
  const start = (): ChildProcess => {
    const started = fork(PROGRAM, [], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const forget = () => {
      if (child === started) child = undefined
    }
    started.once('exit', forget).once('error', forget)
    // It does not keep the node alive.
    started.unref()
    started.channel?.unref()
    return started
  }

  return async (request) => {
    clearTimeout(idle)
    child ??= start()
    const answer = await ask(child, request)
    if (answer.end === 'too costly') {
      stop()
      throw new TooCostlyError('compiling it takes too much time or memory')
    }
    idle = setTimeout(stop, IDLE_MS).unref()
    if (answer.end === 'refused') throw Object.assign(new Error(answer.message), { code: answer.code })
  }
}

function ask(child: ChildProcess, request: TrialRequest): Promise<TrialAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<TrialAnswer>()
  const onEnd = () => reject(new TooCostlyError('the process that compiled it has ended'))
  child.once('message', resolve).once('exit', onEnd).once('error', reject)
  child.channel?.ref()
  child.send(request, (error) => error && onEnd())
  return promise.finally(() => {
    child.off('message', resolve).off('exit', onEnd).off('error', reject)
    child.channel?.unref()
  })
}
