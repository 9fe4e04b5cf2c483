import { rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { AppError } from '@copal/shared/errors.ts'
import type { Log } from '../../../platform/log.ts'
import type { Backend, WeightSet, WeightSetSource } from '../../contract/backend.ts'
import { parseExecutionProvider } from '../../../pruning/graph/execution-provider.ts'
import { createLoadDir, removeStaleLoadDirs } from './work-dir.ts'
import { startWeightSetProcess, type WeightSetProcess } from './weight-set-process.ts'

export interface OnnxBackendOptions {
  /** Scratch space: while a masked set is loaded its pruned weights stand there. */
  workDir: string
  /** Threads of each weight set; every processor by default. */
  threads?: number | undefined
  /** `cpu` (default), `cuda` or `webgpu`. */
  provider?: string | undefined
  log?: Pick<Log, 'info'> | undefined
}

/** A {@link Backend} that tells where a set runs. */
export interface OnnxBackend extends Backend {
  /** Process of a set; undefined when it has none any more. */
  pidOf(weights: WeightSet): number | undefined
}

/**
 * Runs each weight set in a process of its own with ONNX Runtime: a run blocks its thread, sessions are
 * never taken down cleanly, and a crash must cost one set only.
 *
 * @throws AppError `invalid_request` for an unknown provider
 */
export function createOnnxBackend(options: OnnxBackendOptions): OnnxBackend {
  const provider = parseExecutionProvider(options.provider ?? 'cpu')
  const threads = options.threads ?? availableParallelism()
  const processes = new Map<WeightSet, WeightSetProcess>()
  const cleaned = removeStaleLoadDirs(options.workDir)

  const processOf = (weights: WeightSet): WeightSetProcess => {
    const running = processes.get(weights)
    if (running) return running
    throw new AppError('node_failed', `The weight set of version ${weights.version} is not loaded.`)
  }

  return {
    name: `onnx-${provider}`,

    async load(source) {
      await cleaned
      const startedMs = performance.now()
      const workDir = await createLoadDir(options.workDir)
      const started = startWeightSetProcess(
        source.version === 0 ? 'the dense weights' : `mask version ${source.version}`,
      )
      try {
        await started.call({ kind: 'load', options: { ...loadOptions(source), workDir, threads, provider } })
      } catch (thrown) {
        await started.close()
        throw thrown
      } finally {
        await rm(workDir, { recursive: true, force: true })
      }
      const weights: WeightSet = { version: source.version, source, paged: false, ended: started.ended }
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
