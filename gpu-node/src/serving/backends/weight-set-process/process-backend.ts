import { AppError } from '@copal/shared/errors.ts'
import type { Log } from '../../../platform/log.ts'
import type { Backend, WeightSet, WeightSetSource } from '../../contract/backend.ts'
import { callLimits } from './call-limits.ts'
import { startWeightSetProcess, type WeightSetProcess } from './weight-set-process.ts'

/** How a {@link ProcessBackend} starts the process of a set. */
export interface ProcessBackendOptions<Options> {
  name: string
  /** Program of the process, which calls `serveWeightSet`. */
  worker: URL
  /** Threads of each process. */
  threads: number
  /** Calls `start` with what the process of a set loads. After it failed, the process has ended. */
  load: (
    source: WeightSetSource,
    start: (options: Options) => Promise<WeightSetProcess<Options>>,
  ) => Promise<WeightSetProcess<Options>>
  log?: Pick<Log, 'info'> | undefined
}

/** A {@link Backend} that reports the process of a set. */
export interface ProcessBackend extends Backend {
  /** Returns the process id of a set; undefined after its process ended. */
  pidOf(weights: WeightSet): number | undefined
}

/** Creates a backend that runs each weight set in a process of its own. */
export function createProcessBackend<Options>({
  name,
  worker,
  threads,
  load,
  log,
}: ProcessBackendOptions<Options>): ProcessBackend {
  const processes = new Map<WeightSet, WeightSetProcess<Options>>()

  const start = async ({ model, version, signal }: WeightSetSource, options: Options) => {
    const started = startWeightSetProcess<Options>({
      name: version === 0 ? 'the dense weights' : `mask version ${version}`,
      worker,
      threads,
      limits: callLimits(model),
      signal,
    })
    try {
      await started.call({ kind: 'load', options })
      return started
    } catch (thrown) {
      await started.close()
      throw thrown
    }
  }

  return {
    name,

    async load(source) {
      const startedMs = performance.now()
      const { version, priority } = source
      const started = await load(source, (options) => start(source, options))
      const { pid, numerics, ended } = started
      const weights: WeightSet = { version, source, paged: false, numerics, ended }
      processes.set(weights, started)
      void ended.then(() => processes.delete(weights))
      log?.info('weight set loaded', {
        version,
        priority,
        pid,
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

    pidOf: (weights) => processes.get(weights)?.pid,
  }
}
