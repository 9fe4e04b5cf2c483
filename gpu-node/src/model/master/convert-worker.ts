import { parentPort, workerData } from 'node:worker_threads'
import { AppError } from '@copal/shared/errors.ts'
import type { ConvertJob, ConvertReport } from './ensure-master.ts'
import { openCheckpoint } from '../formats/open-checkpoint.ts'
import { writeMaster } from './write-master.ts'

const job = workerData as ConvertJob

function report(message: ConvertReport): void {
  parentPort?.postMessage(message)
}

try {
  const checkpoint = await openCheckpoint(job.path)
  try {
    await writeMaster(checkpoint, job.config, {
      dir: job.dir,
      source: job.path,
      sourceSha256: job.sourceSha256,
      onBytes: (doneBytes) => report({ kind: 'progress', doneBytes }),
    })
  } finally {
    await checkpoint.close()
  }
  report({ kind: 'done' })
} catch (error) {
  // Errors lose their class between threads. Errors other than AppError go to the `error` event.
  if (!(error instanceof AppError)) throw error
  report({ kind: 'refused', code: error.code, message: error.message })
}
