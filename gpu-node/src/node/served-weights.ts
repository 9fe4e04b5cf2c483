import type { HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { parameterCount } from '../model/master/dense-model.ts'
import { chooseBackend } from '../serving/backends/choose-backend.ts'
import type { CallWatch } from '../serving/backends/gpu/call-watch.ts'
import type { Backend } from '../serving/contract/backend.ts'
import { isSameDesired } from '../serving/control/node-state.ts'
import { createEngine } from '../serving/engine/engine.ts'
import type { Engine } from '../serving/engine/engine-api.ts'
import { createMaskSwap, type MaskSwap } from '../serving/masks/mask-swap.ts'
import { createTokenRate, type TokenRate } from '../serving/telemetry/token-rate.ts'
import type { NodeFoundation } from './foundation.ts'

/** The weight sets of a node, the engine that runs requests on them, and the backend that both use. */
export interface ServedWeights {
  readonly backend: Backend
  readonly engine: Engine
  readonly swap: MaskSwap
  /** Tokens that the engine generates. */
  readonly generated: Pick<TokenRate, 'perSecond'>
  /** Calls `listener` whenever a state that heartbeats report has changed. */
  subscribe(listener: () => void): void
  /** Loads the masks that the node served last, or the dense weights, and settles when they serve. */
  start(): Promise<void>
  /** Applies the masks that the gateway wants the node to hold. */
  converge(desired: HeartbeatResponse['desired']): void
  /** Loads and activates nothing more, and fails every request. */
  endRequests(): void
  /** Ends the requests, and releases every weight set. */
  stop(): Promise<void>
}

/** How a node watches its GPU, and whom it tells that the GPU is gone. */
export interface GpuWatch {
  /** Watches calls of the GPU for hangs. */
  gpuCalls: CallWatch
  /** Called when the GPU was lost and does not work again in this process. */
  onGpuGone: (error: Error) => void
}

/** Creates the weight sets of a node; nothing is loaded until `start`. */
export function createServedWeights(
  { settings, model, memory, files, telemetry, log }: NodeFoundation,
  { gpuCalls, onGpuGone }: GpuWatch,
): ServedWeights {
  const listeners: (() => void)[] = []
  const generated = createTokenRate()
  const backend = chooseBackend({
    ...settings,
    gpu: memory.gpu,
    kvTokens: memory.kvTokens,
    workDir: files.workDir,
    log,
    gpuCalls,
    onGpuGone,
  })
  const engine = createEngine({
    backend,
    config: model.config,
    codec: model.codec,
    observer: {
      ...telemetry.metrics.observer,
      sampled(sampled) {
        generated.count(sampled.tokens)
        telemetry.metrics.observer.sampled?.(sampled)
      },
    },
    policy: {
      kvTokens: memory.kvTokens,
      contextLength: memory.contextLength,
      scoreKvTokens: memory.scoreKvTokens,
      draftTokens: settings.draftTokens,
      scoringShare: settings.scoringShare,
      ...(settings.maxRunning === null ? {} : { maxRunning: settings.maxRunning }),
    },
  })
  telemetry.metrics.trackEngine(engine)
  const swap = createMaskSwap({
    model,
    backend,
    engine,
    masks: files.masks,
    log,
    observer: telemetry.metrics.swaps,
    memory: { bytes: memory.weightBytes, denseBytes: (backend.bytesPerWeight ?? 4) * parameterCount(model) },
    onChange: () => listeners.forEach((listener) => listener()),
  })

  /** Stores the desired masks before the first of them serves, so that a node that is killed then returns with them. */
  async function changeTo(desired: HeartbeatResponse['desired']): Promise<void> {
    await files.state.save({ model: model.id, desired })
    // The newest ones, if they changed again meanwhile.
    swap.converge(files.state.current().desired)
    await swap.settled()
    await files.removeUnusedMasks()
  }

  function endRequests(): void {
    swap.stop()
    engine.close()
  }

  return {
    backend,
    engine,
    swap,
    generated,
    endRequests,
    subscribe: (listener) => void listeners.push(listener),
    start() {
      const stored = files.state.current()
      return swap.start(stored.model === model.id ? stored.desired : { active: null, previous: null })
    },
    converge(desired) {
      const stored = files.state.current()
      if (!isSameDesired(stored.desired, desired)) return void changeTo(desired)
      if (stored.model !== model.id) void files.state.save({ model: model.id, desired })
      swap.converge(desired)
    },
    stop() {
      endRequests()
      return swap.close()
    },
  }
}
