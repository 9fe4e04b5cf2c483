import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { AppError, type ErrorCode } from '@copal/shared/errors.ts'
import type { LlamaConfig } from '../config/llama-config.ts'
import type { DenseMaster } from './dense-model.ts'
import { explainWriteError, requireSpace } from '../../platform/disk-space.ts'
import { masterLayout, openMasterDirectory } from './master-file.ts'
import { createProgressReporter, type OnModelProgress } from '../../platform/progress.ts'
import { createScratch, publishDirectory, removeScratch } from '../../platform/scratch.ts'

/** Input of the conversion worker. */
export interface ConvertJob {
  /** Weights to convert: a GGUF, a safetensors file or an index of several. */
  path: string
  config: LlamaConfig
  sourceSha256: string
  /** Empty directory for the master and its manifest. */
  dir: string
}

/** Messages from the conversion worker. */
export type ConvertReport =
  | { kind: 'progress'; doneBytes: number }
  | { kind: 'done' }
  | { kind: 'refused'; code: ErrorCode; message: string }

/** Options of {@link ensureMaster}. */
export interface EnsureMasterOptions {
  cacheDir: string
  /** Name of the model in progress messages. */
  what: string
  /** Hash every byte of an existing master. */
  thorough?: boolean
  onProgress?: OnModelProgress | undefined
  signal?: AbortSignal | undefined
  freeBytes?: ((dir: string) => Promise<number>) | undefined
}

/**
 * Returns the dense master of a model from the cache. A missing master is converted by a worker thread and moved into
 * place in one step, so processes that race for it all end with a valid one.
 *
 * @throws AppError `internal_error` without disk space, `unsupported_model` when the weights do not fit
 * the configuration; the reason of `signal` when that aborts
 */
export async function ensureMaster(
  source: { path: string; config: LlamaConfig; sha256: string },
  options: EnsureMasterOptions,
): Promise<DenseMaster> {
  const { cacheDir, signal } = options
  const dir = join(cacheDir, 'models', source.sha256)
  const check = { thorough: options.thorough === true, signal }
  const present = await openMasterDirectory(dir, source.config, check)
  if (present !== undefined) return present

  const { fileBytes } = masterLayout(source.config, {})
  const purpose = 'for the dense weights'
  await requireSpace(cacheDir, fileBytes, purpose, options.freeBytes)
  const scratch = await createScratch(cacheDir)
  try {
    const reporter = createProgressReporter(options.onProgress, 'convert', options.what)
    reporter(0, fileBytes)
    await runWorker(
      { path: source.path, config: source.config, sourceSha256: source.sha256, dir: join(scratch, 'master') },
      (doneBytes) => reporter(doneBytes, fileBytes),
      signal,
    )
    const isWhole = async () => (await openMasterDirectory(dir, source.config, check)) !== undefined
    await publishDirectory(join(scratch, 'master'), dir, scratch, isWhole)
  } catch (error) {
    throw explainWriteError(error, cacheDir, purpose)
  } finally {
    await removeScratch(scratch)
  }
  const master = await openMasterDirectory(dir, source.config, { signal })
  if (master === undefined) {
    throw new AppError(
      'internal_error',
      `The dense weights in ${dir} were damaged right after they were written. Check the disk.`,
    )
  }
  return master
}

async function runWorker(
  job: ConvertJob,
  onBytes: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted()
  const worker = new Worker(new URL('./convert-worker.ts', import.meta.url), { workerData: job })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const abort = () => reject(signal?.reason)
  signal?.addEventListener('abort', abort, { once: true })
  worker.on('message', (report: ConvertReport) => {
    if (report.kind === 'progress') onBytes(report.doneBytes)
    else if (report.kind === 'done') resolve()
    else reject(new AppError(report.code, report.message))
  })
  worker.on('error', reject)
  worker.on('exit', (code) => reject(new Error(`The conversion ended with exit code ${code} and no result.`)))
  try {
    await promise
  } finally {
    signal?.removeEventListener('abort', abort)
    await worker.terminate()
  }
}
