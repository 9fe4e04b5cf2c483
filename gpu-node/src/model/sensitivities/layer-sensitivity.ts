import { z } from 'zod'
import type { LlamaConfig } from '../config/llama-config.ts'
import { findMeasured, measuredPath, type MeasuredKind } from './measured-file.ts'

const FORMAT_VERSION = 2
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)

/**
 * The cost of pruning each linear of a model, measured by {@link measureLayerSensitivity}: means over tokens of the
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
  /** Divergence with every linear pruned by the mask. */
  divergence: z.number().positive(),
  /** Results by the name of the weight. */
  linears: z.record(
    z.string(),
    z.object({
      /** Share of the linear's weights that the mask prunes. */
      ratio: z.number().gt(0).lt(1),
      /** Decrease of the divergence when this linear is dense; below 0 where it is smaller than the noise. */
      loss: z.number(),
    }),
  ),
})
export type LayerSensitivity = z.output<typeof layerSensitivityFile>

const KIND: MeasuredKind<LayerSensitivity> = {
  label: 'layer sensitivity',
  folder: 'layer-sensitivities',
  version: FORMAT_VERSION,
  schema: layerSensitivityFile,
  command: 'npx copal lab sensitivity',
}

/** Returns the path of a model's sensitivity file in a cache folder. */
export function layerSensitivityPath(cacheDir: string, baseSha256: string): string {
  return measuredPath(KIND, cacheDir, baseSha256)
}

/** Returns the sensitivity of a model, see {@link findMeasured}. */
export function findLayerSensitivity(
  cacheDir: string,
  config: LlamaConfig,
  baseSha256: string,
): Promise<LayerSensitivity | null> {
  return findMeasured(KIND, cacheDir, config, baseSha256)
}
