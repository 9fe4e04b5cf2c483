import { AppError } from '../errors.ts'
import { SafetensorsError } from './safetensors-container.ts'

/** Creates the error for an unusable mask file; `reason` names the wrong tensor or metadata. */
export function maskInvalid(reason: string, cause?: unknown): AppError {
  return new AppError(
    'mask_invalid',
    `The mask is not usable: ${reason.replace(/\.$/, '')}. Fetch or create the mask again.`,
    cause === undefined ? {} : { cause },
  )
}

/**
 * Runs one step of reading a mask file, and reports its errors as errors of the mask.
 *
 * @throws AppError `mask_invalid`
 */
export function asMaskInvalid<T>(read: () => T, tensor?: string): T {
  try {
    return read()
  } catch (cause) {
    if (cause instanceof SafetensorsError || cause instanceof AppError) {
      throw maskInvalid(tensor === undefined ? cause.message : `tensor '${tensor}': ${cause.message}`, cause)
    }
    throw cause
  }
}
