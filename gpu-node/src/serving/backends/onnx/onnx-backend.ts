import { availableParallelism } from 'node:os'
import { reasonOf, type Log } from '../../../platform/log.ts'
import { createScratch, removeScratch } from '../../../platform/scratch.ts'
import { createProcessBackend, type ProcessBackend } from '../weight-set-process/process-backend.ts'
import type { OnnxLoadOptions } from './load-onnx-runner.ts'

const WORKER = new URL('./onnx-worker.ts', import.meta.url)

/** Options of the ONNX backend. */
export interface OnnxBackendOptions {
  /** Scratch space, which holds the pruned weights of a masked set while it loads. */
  workDir: string
  /** Threads of each weight set; all processors by default. */
  threads?: number | undefined
  log?: Pick<Log, 'info' | 'warn'> | undefined
}

/**
 * Creates the backend that runs each weight set in a process of its own with ONNX Runtime, because a run blocks its
 * thread, sessions cannot be released cleanly, and a crash must affect only one set.
 */
export function createOnnxBackend({
  workDir,
  threads = availableParallelism(),
  log,
}: OnnxBackendOptions): ProcessBackend {
  return createProcessBackend<OnnxLoadOptions>({
    name: 'onnx-cpu',
    worker: WORKER,
    threads,
    log,
    async load({ model: { config, master }, maskPath, priority }, start) {
      const loadDir = await createScratch(workDir)
      try {
        const background = priority === 'background'
        return await start({ config, master, maskPath, background, workDir: loadDir, threads })
      } finally {
        // The set works without it. The next start of the node removes what is left.
        await removeScratch(loadDir).catch((error: unknown) =>
          log?.warn('scratch of a weight set cannot be removed', { path: loadDir, reason: reasonOf(error) }),
        )
      }
    },
  })
}
