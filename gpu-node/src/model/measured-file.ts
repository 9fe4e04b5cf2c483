import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import type { z } from 'zod'

/** Something that is measured once a model and kept as JSON: in the cache, or, of some models, in the repository. */
export interface MeasuredKind<T> {
  /** `layer sensitivity` */
  label: string
  /** Name of its folders. */
  folder: string
  version: number
  schema: z.ZodType<T>
  /** The command that measures it. */
  command: string
}

/** Where what was measured of a model lies in a cache folder. Those of other versions lie beside it, and are not looked at. */
export function measuredPath(
  { folder, version }: Pick<MeasuredKind<unknown>, 'folder' | 'version'>,
  cacheDir: string,
  baseSha256: string,
): string {
  return join(cacheDir, folder, `${baseSha256}.v${version}.json`)
}

/**
 * What was measured of a model here, else in the repository.
 *
 * @param isOf whether it belongs to the model
 * @returns null when it was never measured
 * @throws AppError `invalid_request` for a file that is damaged or of another model; names it
 */
export async function findMeasured<T>(
  kind: MeasuredKind<T>,
  cacheDir: string,
  baseSha256: string,
  isOf: (found: T) => boolean,
): Promise<T | null> {
  const bundled = join(import.meta.dirname, kind.folder, `${baseSha256}.json`)
  for (const path of [measuredPath(kind, cacheDir, baseSha256), bundled]) {
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
      throw error
    })
    if (text === null) continue
    const found = kind.schema.safeParse(parseJson(text))
    if (found.success && isOf(found.data)) return found.data
    throw new AppError(
      'invalid_request',
      `${path} is not the ${kind.label} of this model. Delete it; ${kind.command} measures it again.`,
    )
  }
  return null
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
