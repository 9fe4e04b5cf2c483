import { AppError } from '../errors.ts'

/** A model as clients name it: with the weights that shall answer, or without for those that are active. */
export interface ModelName {
  id: string
  /** 0 is dense; undefined: whatever is active. */
  version: number | undefined
}

/**
 * Reads `model`, `model@mask-12` or `model@dense`.
 *
 * @throws AppError `model_not_found` for anything else after an `@`
 */
export function parseModelName(name: string): ModelName {
  const at = name.indexOf('@')
  if (at < 0) return { id: name, version: undefined }
  const id = name.slice(0, at)
  const weights = name.slice(at + 1)
  if (weights === 'dense') return { id, version: 0 }
  const version = /^mask-([1-9]\d{0,14})$/.exec(weights)?.[1]
  if (version !== undefined) return { id, version: Number(version) }
  throw new AppError(
    'model_not_found',
    `The model '${name}' does not exist: after '@' 'dense' or 'mask-' and a version is expected, like '${id}@mask-12'.`,
    { param: 'model' },
  )
}

/** The name of a model with one of its weights, as {@link parseModelName} reads it. */
export function formatModelName(id: string, version: number): string {
  return version === 0 ? `${id}@dense` : `${id}@mask-${version}`
}
