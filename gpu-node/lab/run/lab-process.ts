import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import { DamagedArtifactError } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import type { LabCall, LabCalls, LabMessage, LabStart } from './lab-child-protocol.ts'

/** The parent's side of the child in which the laboratory's work is done. */
export interface LabProcess {
  /**
   * Calls are served one after another.
   *
   * @throws AppError as the child says, or `node_failed` when it died; DamagedArtifactError
   */
  call<Name extends LabCall>(
    call: Name,
    work: LabCalls[Name]['work'],
    onProgress?: (fraction: number, message: string) => void,
  ): Promise<LabCalls[Name]['answer']>
  /** Kills it: what it writes counts only after a rename. Settles when it is gone. */
  close(): Promise<void>
}

interface PendingCall {
  resolve: (answer: LabCalls[LabCall]['answer']) => void
  reject: (error: Error) => void
  onProgress: ((fraction: number, message: string) => void) | undefined
}

const PROGRAM = fileURLToPath(new URL('./lab-child.ts', import.meta.url))

/** Starts the child. */
export function startLabProcess(start: LabStart): LabProcess {
  const child = fork(PROGRAM, [], {
    // Typed arrays travel as they are.
    serialization: 'advanced',
    // Flags of a test runner or debugger are not for it.
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const waiting = new Map<number, PendingCall>()
  const { promise: ended, resolve: end } = Promise.withResolvers<void>()
  let gone: AppError | undefined
  let nextId = 1

  const fail = (how: string, cause?: unknown) => {
    gone ??= new AppError(
      'node_failed',
      `The laboratory's process ${how}. What is finished is kept: run the same command again.`,
      { cause },
    )
    for (const { reject } of waiting.values()) reject(gone)
    waiting.clear()
    end()
  }
  child.once('error', (error) => fail('could not be started or reached', error))
  child.once('exit', (code, signal) =>
    fail(signal === null ? `ended with code ${code}` : `was ended by ${signal}`),
  )
  child.on('message', (message: LabMessage) => {
    const call = waiting.get(message.id)
    if (!call) return
    if (message.type === 'progress') return call.onProgress?.(message.fraction, message.message)
    waiting.delete(message.id)
    if (message.type === 'answer') call.resolve(message.answer)
    else if (message.type === 'damaged')
      call.reject(new DamagedArtifactError({ id: message.artifactId }, 'see above'))
    else
      call.reject(
        parseErrorBody(message.error) ?? new AppError('internal_error', message.error.error.message),
      )
  })
  child.send(start)

  return {
    call: (call, work, onProgress) =>
      new Promise((resolve, reject) => {
        if (gone) return reject(gone)
        const id = nextId++
        waiting.set(id, { resolve, reject, onProgress })
        child.send({ id, call, work }, (error) => error && fail('cannot be reached', error))
      }),
    async close() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
