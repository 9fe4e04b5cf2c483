import { rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { AppError } from '@copal/shared/errors.ts'
import { numericsOf } from '@copal/shared/metrics/numerics.ts'
import type { Log } from '../../../platform/log.ts'
import type { Backend, SequenceWork, WeightSet, WeightSetSource } from '../../contract/backend.ts'
import { callLimits } from './call-limits.ts'
import { createLoadDir, removeStaleLoadDirs } from './work-dir.ts'
import { startWeightSetProcess, type WeightSetProcess } from './weight-set-process.ts'

/** Options of the ONNX backend. */
export interface OnnxBackendOptions {
  /** Scratch space, which holds the pruned weights of a masked set while it loads. */
  workDir: string
  /** Threads of each weight set; all processors by default. */
  threads?: number | undefined
  log?: Pick<Log, 'info'> | undefined
}

/** A {@link Backend} that reports the process of a set. */
export interface OnnxBackend extends Backend {
  /** Returns the process id of a set; undefined after its process ended. */
  pidOf(weights: WeightSet): number | undefined
}

/**
 * Creates the backend that runs each weight set in a process of its own with ONNX Runtime, because a run blocks its
 * thread, sessions cannot be released cleanly, and a crash must affect only one set.
 */
export function createOnnxBackend(options: OnnxBackendOptions): OnnxBackend {
  const threads = options.threads ?? availableParallelism()
  const processes = new Map<WeightSet, WeightSetProcess>()
  const cleaned = removeStaleLoadDirs(options.workDir)

  const processOf = (weights: WeightSet): WeightSetProcess => {
    const running = processes.get(weights)
    if (running) return running
    throw new AppError('node_failed', `The weight set of version ${weights.version} is not loaded.`)
  }

  return {
    name: 'onnx-cpu',

    async load(source) {
      await cleaned
      const startedMs = performance.now()
      const name = source.version === 0 ? 'the dense weights' : `mask version ${source.version}`
      const workDir = await createLoadDir(options.workDir)
      let started: WeightSetProcess | undefined
      try {
        const limits = (work?: readonly SequenceWork[]) => callLimits(source.model, work)
        started = startWeightSetProcess({ name, threads, limits, signal: source.signal })
        await started.call({ kind: 'load', options: { ...loadOptions(source), workDir, threads } })
      } catch (thrown) {
        await started?.close()
        throw thrown
      } finally {
        await rm(workDir, { recursive: true, force: true })
      }
      const weights: WeightSet = {
        version: source.version,
        source,
        paged: false,
        numerics: numericsOf({ precision: 'f32', headPrecision: 'f32' }),
        ended: started.ended,
      }
      processes.set(weights, started)
      void started.ended.then(() => processes.delete(weights))
      options.log?.info('weight set loaded', {
        version: source.version,
        priority: source.priority,
        pid: started.pid,
        ms: Math.round(performance.now() - startedMs),
      })
      return weights
    },

    async step({ weights, work, drop }) {
      return { outputs: await processOf(weights).step(work, drop) }
    },

    async release(weights) {
      await processes.get(weights)?.close()
    },

    pidOf: (weights) => processes.get(weights)?.pid,
  }
}

function loadOptions({ model, maskPath, priority }: WeightSetSource) {
  return { config: model.config, master: model.master, maskPath, background: priority === 'background' }
}
