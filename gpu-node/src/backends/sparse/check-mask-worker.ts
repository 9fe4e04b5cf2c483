/** The thread that reads a mask file through: every byte of it, which blocks. */
import { parentPort, workerData } from 'node:worker_threads'
import { AppError } from '@copal/shared/errors.ts'
import { openMaskFile } from '../../masks/mask-file-reader.ts'
import { verifyMaskFile } from '../../masks/verify.ts'
import { linearShapes } from '../../model/config.ts'
import type { CheckMaskJob, CheckMaskReport } from './mask-places.ts'

function check({ maskPath, config, baseSha256 }: CheckMaskJob): CheckMaskReport {
  try {
    const mask = openMaskFile(maskPath)
    try {
      verifyMaskFile(mask, { baseSha256, shapes: linearShapes(config) })
      const places = new Map(
        [...mask.header.linears].map(([name, { bits, values }]) => [
          name,
          { bits: bits.begin, values: values?.begin ?? null },
        ]),
      )
      return { kind: 'fits', places }
    } finally {
      mask.close()
    }
  } catch (error) {
    // Errors lose their class on the way between threads; what is not ours goes to the `error` event.
    if (!(error instanceof AppError)) throw error
    return { kind: 'refused', code: error.code, message: error.message }
  }
}

parentPort?.postMessage(check(workerData as CheckMaskJob))
