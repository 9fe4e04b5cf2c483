import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import type { z } from 'zod'
import { linearShapes, type LlamaConfig } from '../config/llama-config.ts'

/** A measurement of every linear of a model, by the name of its weight. */
interface Measured {
  base_sha256: string
  linears: Record<string, unknown>
}

/** A kind of measurement that is made once per model and stored as JSON in the cache or, for some models, in the repository. */
export interface MeasuredKind<T extends Measured> {
  /** `layer sensitivity` */
  label: string
  /** Name of the folders that hold such files. */
  folder: string
  version: number
  schema: z.ZodType<T>
  /** The command that makes the measurement. */
  command: string
  /** Returns whether the entry of a linear has the linear's shape. */
  fits?: (linear: T['linears'][string], shape: readonly [rows: number, cols: number]) => boolean
}

/** Returns the path of a model's measurement in a cache folder. Files of other versions lie beside it and are ignored. */
export function measuredPath(
  { folder, version }: Pick<MeasuredKind<Measured>, 'folder' | 'version'>,
  cacheDir: string,
  baseSha256: string,
): string {
  return join(cacheDir, folder, `${baseSha256}.v${version}.json`)
}

/**
 * Returns the measurement of a model from the cache, else from the repository.
 *
 * @returns null when it was never measured
 * @throws AppError `invalid_request` for a file that is damaged or of another model; names it
 */
export async function findMeasured<T extends Measured>(
  kind: MeasuredKind<T>,
  cacheDir: string,
  config: LlamaConfig,
  baseSha256: string,
): Promise<T | null> {
  const bundled = join(import.meta.dirname, kind.folder, `${baseSha256}.json`)
  for (const path of [measuredPath(kind, cacheDir, baseSha256), bundled]) {
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
      throw error
    })
    if (text === null) continue
    const found = kind.schema.safeParse(parseJson(text))
    if (found.success && isOfModel(kind, found.data, config, baseSha256)) return found.data
    throw new AppError(
      'invalid_request',
      `${path} is not the ${kind.label} of this model. Delete it; ${kind.command} measures it again.`,
    )
  }
  return null
}

function isOfModel<T extends Measured>(
  { fits }: MeasuredKind<T>,
  found: T,
  config: LlamaConfig,
  baseSha256: string,
): boolean {
  const shapes = linearShapes(config)
  if (found.base_sha256 !== baseSha256 || Object.keys(found.linears).length !== shapes.size) return false
  return [...shapes].every(([name, shape]) => {
    if (!Object.hasOwn(found.linears, name)) return false
    return fits?.(found.linears[name] as T['linears'][string], shape) ?? true
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
