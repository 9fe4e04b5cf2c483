import { availableParallelism } from 'node:os'
import { AppError } from '@copal/shared/errors.ts'
import type { Log } from '../../platform/log.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import type { BackgroundSparseOptions } from './background-sparse-options.ts'
import { callLimits } from './onnx/call-limits.ts'
import { startWeightSetProcess, type WeightSetProcess } from './onnx/weight-set-process.ts'

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
  const processes = new Map<WeightSet, WeightSetProcess<BackgroundSparseOptions>>()
  return {
    name: `${settings.engine}-background`,

    async load(source) {
      const startedMs = performance.now()
      const { model, version, maskPath, signal } = source
      const name = version === 0 ? 'the dense weights' : `mask version ${version}`
      const started = startWeightSetProcess<BackgroundSparseOptions>({
        name,
        threads: engine.threads ?? availableParallelism(),
        limits: (work) => callLimits(model, work),
        signal,
        worker: WORKER,
      })
      try {
        const { config, master } = model
        await started.call({ kind: 'load', options: { ...engine, config, master, version, maskPath } })
      } catch (thrown) {
        await started.close()
        throw thrown
      }
      const { numerics, ended } = started
      const weights: WeightSet = { version, source, paged: false, numerics, ended }
      processes.set(weights, started)
      void started.ended.then(() => processes.delete(weights))
      log.info('weight set loaded', {
        version,
        priority: source.priority,
        pid: started.pid,
        ms: Math.round(performance.now() - startedMs),
      })
      return weights
    },

    async step({ weights, work, drop }) {
      const running = processes.get(weights)
      if (running) return { outputs: await running.step(work, drop) }
      throw new AppError('node_failed', `The weight set of version ${weights.version} is not loaded.`)
    },

    async release(weights) {
      await processes.get(weights)?.close()
    },
  }
}
