import { Worker } from 'node:worker_threads'
import { AppError, type ErrorCode } from '@copal/shared/errors.ts'
import type { LlamaConfig } from '../../model/config.ts'
import type { DenseMaster } from '../../model/dense-model.ts'

/** Where the linears of a mask file lie, by name: bytes from the start of the file; no values in a mask alone. */
export type MaskPlaces = ReadonlyMap<string, { bits: number; values: number | null }>

/** What the thread is to check. */
export interface CheckMaskJob {
  maskPath: string
  config: LlamaConfig
  baseSha256: string
}

/** What it answers. */
export type CheckMaskReport =
  | { kind: 'fits'; places: MaskPlaces }
  | { kind: 'refused'; code: ErrorCode; message: string }

/**
 * Checks the whole of a mask file against a model, on a thread of its own, and tells where its linears lie.
 *
 * @throws AppError `mask_invalid`, `mask_base_mismatch`, or `node_failed` when it cannot be read
 */
export async function checkMask(
  maskPath: string,
  config: LlamaConfig,
  master: DenseMaster,
): Promise<MaskPlaces> {
  const job: CheckMaskJob = { maskPath, config, baseSha256: master.baseSha256 }
  const worker = new Worker(new URL('./check-mask-worker.ts', import.meta.url), {
    workerData: job,
    execArgv: [],
  })
  const { promise, resolve, reject } = Promise.withResolvers<CheckMaskReport>()
  worker.on('message', resolve)
  worker.on('error', reject)
  worker.on('exit', (code) => reject(new Error(`the check ended with exit code ${code} and no result`)))
  try {
    const report = await promise
    if (report.kind === 'fits') return report.places
    throw new AppError(report.code, report.message)
  } catch (cause) {
    if (cause instanceof AppError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AppError('node_failed', `The mask cannot be checked: ${reason}.`, { cause })
  } finally {
    await worker.terminate()
  }
}
