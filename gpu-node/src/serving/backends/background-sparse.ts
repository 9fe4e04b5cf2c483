import { availableParallelism } from 'node:os'
import type { Log } from '../../platform/log.ts'
import type { Backend } from '../contract/backend.ts'
import type { BackgroundSparseOptions } from './background-sparse-options.ts'
import { createProcessBackend } from './weight-set-process/process-backend.ts'

const WORKER = new URL('./background-sparse-worker.ts', import.meta.url)

/**
 * Creates the backend of weight sets that are evaluated beside those that an engine of packed weights serves. It computes with the same
 * engine and settings, so that what is evaluated is what would be served. Each set has a process of low priority, because
 * steps of one process run one at a time, and those of serving must not wait.
 */
export function createBackgroundSparseBackend(
  settings: Omit<BackgroundSparseOptions, 'config' | 'master' | 'version' | 'maskPath'> & {
    log: Pick<Log, 'info'>
  },
): Backend {
  const { log, ...engine } = settings
  return createProcessBackend<BackgroundSparseOptions>({
    name: `${engine.engine}-background`,
    worker: WORKER,
    threads: engine.threads ?? availableParallelism(),
    log,
    load: ({ model: { config, master }, version, maskPath }, start) =>
      start({ ...engine, config, master, version, maskPath }),
  })
}
