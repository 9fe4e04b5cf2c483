import { z } from 'zod'
import type { LlamaConfig } from '../config/llama-config.ts'
import { findMeasured, measuredPath, type MeasuredKind } from './measured-file.ts'

/** Quantiles of a linear's weight worth that the file stores: `1/64 … 63/64`. */
export const QUANTILES = 64

/** Version of the file format. */
export const ROW_SENSITIVITY_VERSION = 1
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)

/** Base64 of little-endian f32 numbers that are not negative. */
const floats = z.base64().transform((text, context) => {
  const bytes = Buffer.from(text, 'base64')
  const values = new Float32Array(Math.floor(bytes.length / 4))
  new Uint8Array(values.buffer).set(bytes.subarray(0, values.byteLength))
  if (bytes.length === values.byteLength && values.every((value) => value >= 0 && Number.isFinite(value)))
    return values
  context.addIssue({ code: 'custom', message: 'expected f32 numbers that are finite and not below 0' })
  return z.NEVER
})

/** The stored result of {@link measureRowSensitivity}. */
const rowSensitivityFile = z.object({
  format: z.literal('copal-row-sensitivity'),
  format_version: z.literal(ROW_SENSITIVITY_VERSION),
  model: z.string(),
  base_sha256: sha256,
  created: z.iso.datetime(),
  text: z.object({ sha256, windows: z.int().positive(), window_tokens: z.int().positive() }),
  /** Mean negative log-likelihood of the text's tokens, nats. */
  nll_mean: z.number(),
  linears: z.record(
    z.string(),
    z.object({
      /** `[d_out]` f32: the mean over tokens of the squared gradient of the loss, nats² by the output's unit squared. */
      rows: floats,
      /** Distribution of the worth of its weights on this text, see {@link worthQuantiles}. */
      worth: z.array(z.number()).length(QUANTILES - 1),
    }),
  ),
})

/** The cost of an error at each output of a linear, by the name of the weight. */
export type RowSensitivity = z.output<typeof rowSensitivityFile>

const KIND: MeasuredKind<RowSensitivity> = {
  label: 'row sensitivity',
  folder: 'row-sensitivities',
  version: ROW_SENSITIVITY_VERSION,
  schema: rowSensitivityFile,
  command: 'npx copal lab row-sensitivity',
  fits: ({ rows }, shape) => rows.length === shape[0],
}

/** Returns the path of a model's sensitivity file in a cache folder. */
export function rowSensitivityPath(cacheDir: string, baseSha256: string): string {
  return measuredPath(KIND, cacheDir, baseSha256)
}

/** Returns the sensitivity of a model, see {@link findMeasured}. */
export function findRowSensitivity(
  cacheDir: string,
  config: LlamaConfig,
  baseSha256: string,
): Promise<RowSensitivity | null> {
  return findMeasured(KIND, cacheDir, config, baseSha256)
}

/** Encodes the sensitivity for its file. */
export function encodeRowSensitivity({ linears, ...about }: RowSensitivity): string {
  const encoded = Object.entries(linears).map(([name, { rows, worth }]) => {
    const bytes = Buffer.from(rows.buffer, rows.byteOffset, rows.byteLength)
    return [name, { rows: bytes.toString('base64'), worth: worth.map((value) => Number(value.toFixed(3))) }]
  })
  return `${JSON.stringify({ ...about, linears: Object.fromEntries(encoded) })}\n`
}
