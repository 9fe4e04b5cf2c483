import { AppError } from '@copal/shared/errors.ts'
import { GpuUnavailableError } from '../../../platform/gpu-addon.ts'

/** Loads the GPU addon that the settings require. @throws AppError `invalid_request` that says how to build it */
export function requireGpuAddon<Loaded>(load: () => Loaded): Loaded {
  try {
    return load()
  } catch (error) {
    if (!(error instanceof GpuUnavailableError)) throw error
    throw new AppError('invalid_request', `COPAL_BACKEND is 'gpu'. ${error.message}`, { cause: error })
  }
}
