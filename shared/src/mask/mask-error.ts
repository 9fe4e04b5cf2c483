import { AppError } from '../errors.ts'
import { SafetensorsError } from './safetensors-container.ts'

/** The error for a file that is no usable mask; `reason` names the tensor or the metadata that is wrong. */
export function maskInvalid(reason: string, cause?: unknown): AppError {
  return new AppError(
    'mask_invalid',
    `Not a usable mask: ${reason.replace(/\.$/, '')}. Fetch or make the mask again.`,
    cause === undefined ? {} : { cause },
  )
}

/**
 * Runs a step of reading; what it refuses, the mask file is refused for.
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
