import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import type { z } from 'zod'
import { linearShapes, type LlamaConfig } from '../config/llama-config.ts'

/** Has something of every linear of the model, by the name of its weight. */
interface Measured {
  base_sha256: string
  linears: Record<string, unknown>
}

/** Something that is measured once a model and kept as JSON: in the cache, or, of some models, in the repository. */
export interface MeasuredKind<T extends Measured> {
  /** `layer sensitivity` */
  label: string
  /** Name of its folders. */
  folder: string
  version: number
  schema: z.ZodType<T>
  /** The command that measures it. */
  command: string
  /** Whether what it has of a linear is of that shape. */
  fits?: (linear: T['linears'][string], shape: readonly [rows: number, cols: number]) => boolean
}

/** Where what was measured of a model lies in a cache folder. Those of other versions lie beside it, and are not looked at. */
export function measuredPath(
  { folder, version }: Pick<MeasuredKind<Measured>, 'folder' | 'version'>,
  cacheDir: string,
  baseSha256: string,
): string {
  return join(cacheDir, folder, `${baseSha256}.v${version}.json`)
}

/**
 * What was measured of a model here, else in the repository.
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
