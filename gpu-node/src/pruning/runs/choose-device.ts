import type { GpuAddon } from '../../../gpu/addon.d.ts'
import { loadGpu } from '../../platform/gpu-addon.ts'
import { createDeviceMoments } from '../calibration/device-moments.ts'
import type { MomentSummer } from '../calibration/moment-summer.ts'
import { createDeviceExchange } from '../refinement/device-exchange.ts'
import { createExchangePool } from '../refinement/exchange-pool.ts'
import type { CreateExchangeRefiner } from '../refinement/exchange-refiner.ts'
import { createFallbackExchange } from '../refinement/fallback-exchange.ts'

/** The GPU of a node that serves on one. */
export interface NodeGpu {
  /** A part of its name; null for the best of the machine. */
  device: string | null
}

/** Options of {@link chooseDevice}. */
export interface DeviceOptions {
  /** By default the processor does everything. */
  gpu?: NodeGpu | null | undefined
  /** Called between pieces of the work on a GPU, which goes on when it has settled. */
  pause: () => Promise<void>
  /** Called at most once, when the processor takes over from the GPU. */
  warn: (message: string) => void
  /** Loads the GPU addon; replaced in tests. */
  load?: () => Pick<GpuAddon, 'Exchanger' | 'MomentSums'>
}

/** The parts of an update that run on the processor or on a GPU. */
export interface DeviceWork {
  /** Null: the processor sums. */
  createMoments: () => MomentSummer | null
  createExchange: CreateExchangeRefiner
}

/**
 * Chooses where an update sums second moments and exchanges weights: on the GPU of a node that serves on one, until it
 * fails, else on threads of the processor.
 */
export function chooseDevice({ gpu, pause, warn, load = loadGpu }: DeviceOptions): DeviceWork {
  let isUsed = gpu !== null && gpu !== undefined
  const device = gpu ?? { device: null }
  const onFault = ({ message }: Error) => {
    isUsed = false
    warn(`the GPU cannot go on with this update, so the processor does: ${message}`)
  }
  return {
    createMoments: () =>
      isUsed ? createDeviceMoments({ open: () => new (load().MomentSums)(device), pause, onFault }) : null,
    createExchange: (threads) =>
      isUsed
        ? createFallbackExchange(
            createDeviceExchange(() => new (load().Exchanger)(device), pause),
            () => createExchangePool(threads),
            onFault,
          )
        : createExchangePool(threads),
  }
}
