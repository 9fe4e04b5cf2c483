/**
 * The program of the child process in which the laboratory reads texts, calibrates and selects, so that the command
 * line stays responsive. It serves one call at a time and never outlives its parent.
 */
import '@copal/gpu-node/platform/background-process.ts'
import { inspect } from 'node:util'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import { DamagedArtifactError } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import { openModel } from '@copal/gpu-node/model/open-model.ts'
import type { LabMessage, LabRequest, LabStart } from './lab-child-protocol.ts'
import { createLabCalls } from './lab-child-calls.ts'
import { explainFullDisk } from './explain-full-disk.ts'

process.once('disconnect', () => process.exit(1))
// Ctrl-C reaches the whole process group; the parent ends this process.
process.on('SIGINT', () => undefined)
process.once('message', (start: LabStart) => {
  const calls = open(start)
  // A failure is reported to the first call.
  calls.catch(() => undefined)
  let last: Promise<void> = Promise.resolve()
  process.on('message', (request: LabRequest) => {
    last = last.then(() => handleRequest(calls, request))
  })
})

async function open({ model: { spec, cacheDir, id, baseSha256 }, threads }: LabStart) {
  const model = await openModel(spec, { cacheDir, id })
  if (model.master.baseSha256 !== baseSha256) {
    throw new AppError('unsupported_model', `${spec} changed on disk while the laboratory ran. Run it again.`)
  }
  return createLabCalls(model, threads)
}

async function handleRequest(calls: ReturnType<typeof open>, request: LabRequest): Promise<void> {
  const { id } = request
  try {
    const perform = await calls
    const progress = (fraction: number, message: string) => send({ id, type: 'progress', fraction, message })
    send({ id, type: 'result', result: await perform(request, progress) })
  } catch (thrown) {
    if (thrown instanceof DamagedArtifactError) {
      send({ id, type: 'damaged', artifactId: thrown.artifactId })
      return
    }
    const error = toAppError(explainFullDisk(thrown), request.call)
    send({ id, type: 'failed', error: errorBody(error) })
  }
}

/** Turns an unexpected error into an AppError with its message, and prints its stack for debugging. */
function toAppError(error: unknown, call: string): AppError {
  if (error instanceof AppError) return error
  process.stderr.write(`${inspect(error)}\n`)
  const reason = error instanceof Error ? error.message : String(error)
  return new AppError('internal_error', `The laboratory failed to ${call}: ${reason}. Finished work is kept.`)
}

function send(message: LabMessage): void {
  process.send?.(message)
}
