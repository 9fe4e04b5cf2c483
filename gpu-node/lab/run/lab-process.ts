import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import { DamagedArtifactError } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import type { LabCall, LabCalls, LabMessage, LabStart } from './lab-child-protocol.ts'

/** The parent's handle of the child process that does the laboratory's work. */
export interface LabProcess {
  /**
   * Performs one call. Calls are served one after another.
   *
   * @throws AppError from the child, or `node_failed` if the child died; DamagedArtifactError
   */
  call<Name extends LabCall>(
    call: Name,
    work: LabCalls[Name]['work'],
    onProgress?: (fraction: number, message: string) => void,
  ): Promise<LabCalls[Name]['result']>
  /** Kills the child, which is safe because its files count only after a rename. Resolves when the child has ended. */
  close(): Promise<void>
}

interface PendingCall {
  resolve: (result: LabCalls[LabCall]['result']) => void
  reject: (error: Error) => void
  onProgress: ((fraction: number, message: string) => void) | undefined
}

const PROGRAM = fileURLToPath(new URL('./lab-child.ts', import.meta.url))

/** Starts the child process. */
export function startLabProcess(start: LabStart): LabProcess {
  const child = fork(PROGRAM, [], {
    // Keeps typed arrays.
    serialization: 'advanced',
    // Does not inherit flags of a test runner or debugger.
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const pending = new Map<number, PendingCall>()
  const { promise: ended, resolve: end } = Promise.withResolvers<void>()
  let exitError: AppError | undefined
  let nextId = 1

  const fail = (how: string, cause?: unknown) => {
    exitError ??= new AppError(
      'node_failed',
      `The laboratory's child process ${how}. Finished work is kept: run the same command again to continue.`,
      { cause },
    )
    for (const { reject } of pending.values()) reject(exitError)
    pending.clear()
    end()
  }
  child.on('error', (error) => fail('could not be started or reached', error))
  child.once('exit', (code, signal) =>
    fail(signal === null ? `ended with code ${code}` : `was ended by ${signal}`),
  )
  child.on('message', (message: LabMessage) => {
    const call = pending.get(message.id)
    if (!call) return
    if (message.type === 'progress') return call.onProgress?.(message.fraction, message.message)
    pending.delete(message.id)
    if (message.type === 'result') call.resolve(message.result)
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
        if (exitError) return reject(exitError)
        const id = nextId++
        pending.set(id, { resolve, reject, onProgress })
        child.send({ id, call, work }, (error) => error && fail('cannot be reached', error))
      }),
    async close() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
