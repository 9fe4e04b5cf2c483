import { AppError } from '../errors.ts'

/** A model name as clients send it, with or without the weights to use. */
export interface ModelName {
  id: string
  /** 0 is dense; undefined is the active version. */
  version: number | undefined
}

/**
 * Parses `model`, `model@mask-12` or `model@dense`.
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
    `The model '${name}' does not exist: expected 'dense' or 'mask-<version>' after '@', like '${id}@mask-12'.`,
    { param: 'model' },
  )
}

/** Returns the name of a model with one of its versions, as {@link parseModelName} reads it. */
export function formatModelName(id: string, version: number): string {
  return version === 0 ? `${id}@dense` : `${id}@mask-${version}`
}
