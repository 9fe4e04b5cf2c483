import type { GpuAddon } from '../../../gpu/addon.d.ts'
import { loadGpu } from '../../platform/gpu-addon.ts'
import { createDeviceExchange } from '../refinement/device-exchange.ts'
import { createExchangePool } from '../refinement/exchange-pool.ts'
import type { CreateExchangeRefiner } from '../refinement/exchange-refiner.ts'
import { createFallbackExchange } from '../refinement/fallback-exchange.ts'

/** The GPU whose node selects a mask. */
export interface SelectionGpu {
  /** A part of its name; null for the best of the machine. */
  device: string | null
}

/** Options of {@link chooseExchange}. */
export interface ExchangeOptions {
  /** By default the processor does it. */
  gpu?: SelectionGpu | null | undefined
  /** Called between pieces of the work on a GPU, which goes on when it has settled. */
  pause: () => Promise<void>
  /** Called when the processor takes over from the GPU. */
  warn: (message: string) => void
  /** Loads the GPU addon; replaced in tests. */
  load?: () => Pick<GpuAddon, 'Exchanger'>
}

/** Chooses where selections exchange weights: on the GPU of a node that serves on one, else on threads of the processor. */
export function chooseExchange({ gpu, pause, warn, load = loadGpu }: ExchangeOptions): CreateExchangeRefiner {
  if (!gpu) return createExchangePool
  return (threads) =>
    createFallbackExchange(
      createDeviceExchange(() => new (load().Exchanger)(gpu), pause),
      () => createExchangePool(threads),
      ({ message }) =>
        warn(`the GPU cannot exchange weights, so the processor does for the rest of this mask: ${message}`),
    )
}
