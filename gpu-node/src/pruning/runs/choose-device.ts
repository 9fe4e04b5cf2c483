import type { GpuAddon, GpuCalibratorOptions } from '../../../gpu/addon.d.ts'
import { isGpuFault, loadGpu } from '../../platform/gpu-addon.ts'
import { createBlockRunner, type CreateBlockRunner } from '../calibration/block-runner.ts'
import { createDeviceBlockRunner } from '../calibration/device-block-runner.ts'
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
  /** Called after that, when nothing of this work has memory of the GPU any more. */
  onLeft?: (() => void) | undefined
  /** Loads the GPU addon; replaced in tests. */
  load?: () => Pick<GpuAddon, 'openCalibrator' | 'openExchanger'>
}

/** The parts of an update that run on the processor or on a GPU. */
export interface DeviceWork {
  createRunner: CreateBlockRunner
  createExchange: CreateExchangeRefiner
}

/**
 * Chooses where an update calibrates blocks and exchanges weights: on the GPU of a node that serves on one, until it
 * fails, else on threads of the processor.
 */
export function chooseDevice({ gpu, pause, warn, onLeft, load = loadGpu }: DeviceOptions): DeviceWork {
  let isUsed = gpu !== null && gpu !== undefined
  const device = gpu ?? { device: null }
  const onFault = ({ message }: Error) => {
    isUsed = false
    warn(`the GPU cannot go on with this update, so the processor does: ${message}`)
  }
  return {
    async createRunner(model, options) {
      if (isUsed) {
        const open = async (size: GpuCalibratorOptions) => load().openCalibrator({ ...size, ...device })
        try {
          return await createDeviceBlockRunner(model, { ...options, open, pause, onFault })
        } catch (error) {
          if (!isGpuFault(error)) throw error
          onFault(error)
        }
      }
      // A runner that lost a block was released before this one is asked for.
      if (gpu && !isUsed) onLeft?.()
      return createBlockRunner(model, options)
    },
    createExchange: (threads) =>
      isUsed
        ? createFallbackExchange(
            createDeviceExchange(async () => load().openExchanger(device), pause),
            () => createExchangePool(threads),
            (fault) => {
              onFault(fault)
              onLeft?.()
            },
          )
        : createExchangePool(threads),
  }
}
