import { isGpuFault } from '../../platform/gpu-addon.ts'
import { createUnfold, type ExchangeRefiner } from './exchange-refiner.ts'

/**
 * Creates a refiner that uses a device until it cannot: it is lost, missing, or has too little memory. The linear at hand and
 * all later ones are then refined on the processor.
 *
 * @param processor creates the refiner that takes over
 * @param onFallback called once, with the fault of the device
 */
export function createFallbackExchange(
  device: ExchangeRefiner,
  processor: () => ExchangeRefiner,
  onFallback: (fault: Error) => void,
): ExchangeRefiner {
  let current = device
  return {
    // Either refiner takes it.
    unfold: createUnfold(),
    async refine(task) {
      try {
        return await current.refine(task)
      } catch (error) {
        if (current !== device || !isGpuFault(error)) throw error
        await device.close()
        current = processor()
        onFallback(error)
        return current.refine(task)
      }
    },
    close: () => current.close(),
  }
}
