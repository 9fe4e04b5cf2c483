import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { z } from 'zod'
import { linearShapes, type LlamaConfig } from './config.ts'

const FORMAT_VERSION = 2
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)

/**
 * What the pruned linears of a model cost its output, as {@link measureLayerSensitivity} found it: means over tokens of the
 * Kullback-Leibler divergence from the dense model, in nats.
 */
export const layerSensitivityFile = z.object({
  format: z.literal('copal-layer-sensitivity'),
  format_version: z.literal(FORMAT_VERSION),
  model: z.string(),
  base_sha256: sha256,
  created: z.iso.datetime(),
  mask: z.object({ sha256, method: z.string(), pattern: z.string() }),
  text: z.object({ sha256, windows: z.int().positive(), window_tokens: z.int().positive() }),
  /** With every linear pruned by the mask. */
  divergence: z.number().positive(),
  /** By the name of the weight. */
  linears: z.record(
    z.string(),
    z.object({
      /** What the mask prunes of it. */
      ratio: z.number().gt(0).lt(1),
      /** By how much the divergence falls when this one is dense; below 0 where that is less than chance. */
      loss: z.number(),
    }),
  ),
})
export type LayerSensitivity = z.output<typeof layerSensitivityFile>

/** Of models that were measured for the repository; `docs/laboratory.md` says how. */
const BUNDLED = join(import.meta.dirname, 'layer-sensitivities')

/** Where the sensitivity of a model lies in a cache folder. Those of other format versions lie beside it, and are not looked at. */
export function layerSensitivityPath(cacheDir: string, baseSha256: string): string {
  return join(cacheDir, 'layer-sensitivities', `${baseSha256}.v${FORMAT_VERSION}.json`)
}

/**
 * The sensitivity of a model: the one that was measured here, else the one of the repository.
 *
 * @returns null when it was never measured
 * @throws AppError `invalid_request` for a file that is damaged or of another model; names it
 */
export async function findLayerSensitivity(
  cacheDir: string,
  config: LlamaConfig,
  baseSha256: string,
): Promise<LayerSensitivity | null> {
  const names = [...linearShapes(config).keys()]
  for (const path of [layerSensitivityPath(cacheDir, baseSha256), join(BUNDLED, `${baseSha256}.json`)]) {
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
      throw error
    })
    if (text === null) continue
    const found = layerSensitivityFile.safeParse(parseJson(text))
    if (
      found.success &&
      found.data.base_sha256 === baseSha256 &&
      names.length === Object.keys(found.data.linears).length &&
      names.every((name) => Object.hasOwn(found.data.linears, name))
    )
      return found.data
    throw new AppError(
      'invalid_request',
      `${path} is not the layer sensitivity of this model. Delete it; copal lab sensitivity measures it again.`,
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
