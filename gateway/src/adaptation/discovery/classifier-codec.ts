import { AppError } from '@copal/shared/errors.ts'
import { z } from 'zod'
import { domainName } from '@copal/shared/wire/inference-fields.ts'
import type { DomainClassifier, LinearMachine } from './classifier.ts'
import { GRAM_BUCKETS } from './gram-vector.ts'
import { comparedExamples } from './train-classifier.ts'

/** Most bytes of a stored classifier, and those of them that are not arrays. */
const MAX_CLASSIFIER_BYTES = 16 * 1024 * 1024
const MAX_NAMES_BYTES = 64 * 1024
/** Bytes of an f32 in base64. */
const BYTES_PER_VALUE = (4 * 4) / 3
const VERSION = 4
/** The version before, without a background: it is used until the next training. */
const VERSION_WITHOUT_BACKGROUND = 3

const floats = z
  .base64()
  .refine((text) => (atobLength(text) & 3) === 0, 'expected whole f32 values')
  .transform((text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer))
  .refine((values) => values.every(Number.isFinite), 'expected finite values')
const machine = { weights: floats, bias: floats, sharpness: z.number().positive() }

const scale = z.tuple([z.number(), z.number().positive()])

const stored = z
  .object({
    version: z.literal([VERSION, VERSION_WITHOUT_BACKGROUND]),
    domains: z.array(domainName),
    background: z
      .object({ version: z.string().min(1), lead: scale, threshold: z.number() })
      .nullable()
      .default(null),
    minTokens: z.int().nonnegative(),
    grams: z.object({ ...machine, inverseFrequencies: floats }),
    dense: z.object({ ...machine, mean: floats, scale: floats }).nullable(),
    novelty: z
      .object({
        centres: floats,
        neighbours: floats,
        whitening: floats,
        projections: floats,
        penalty: z.number().positive(),
        scales: z.object({ domain: scale, neighbour: scale }),
        threshold: z.number(),
      })
      .nullable(),
    gramThreshold: z.number().nullable(),
  })
  .refine(({ domains, background, grams, dense, novelty }) => {
    const k = domains.length + (background ? 1 : 0)
    const size = dense?.mean.length ?? 0
    return (
      (background === null || dense !== null) &&
      (novelty === null) === (dense === null) &&
      (novelty === null ||
        // A domain of which no example is compared has no centre.
        (novelty.centres.length % size === 0 &&
          novelty.neighbours.length === novelty.whitening.length &&
          novelty.neighbours.length % size === 0 &&
          novelty.projections.length ===
            (novelty.centres.length / size) * (novelty.whitening.length / size))) &&
      grams.inverseFrequencies.length === GRAM_BUCKETS &&
      grams.bias.length === k &&
      grams.weights.length === k * GRAM_BUCKETS &&
      (dense === null ||
        (dense.bias.length === k && dense.weights.length === k * size && dense.scale.length === size))
    )
  }, 'expected arrays of matching sizes')

/**
 * Returns the most domains of a classifier that can be stored and read, for embeddings of a size, and of which texts can be
 * compared with an example each.
 */
export function maxDomains(size: number): number {
  const compared = comparedExamples(size)
  const values = (MAX_CLASSIFIER_BYTES - MAX_NAMES_BYTES) / BYTES_PER_VALUE
  const ofBackground = GRAM_BUCKETS + 1 + size + 1
  const shared = GRAM_BUCKETS + 2 * size + 2 * compared * size + ofBackground
  const ofDomain = GRAM_BUCKETS + 1 + 2 * size + 1 + compared
  return Math.min(compared, Math.floor((values - shared) / ofDomain))
}

/** Encodes a classifier as UTF-8 JSON with base64 arrays of little-endian f32. */
export function encodeClassifier(classifier: DomainClassifier): Uint8Array {
  const { grams, dense, novelty, gramThreshold } = classifier
  return new TextEncoder().encode(
    JSON.stringify({
      version: VERSION,
      domains: classifier.domains,
      background: classifier.background,
      minTokens: classifier.minTokens,
      grams: { ...encodeMachine(grams), inverseFrequencies: base64(grams.inverseFrequencies) },
      dense: dense && { ...encodeMachine(dense), mean: base64(dense.mean), scale: base64(dense.scale) },
      novelty: novelty && {
        ...novelty,
        centres: base64(novelty.centres),
        neighbours: base64(novelty.neighbours),
        whitening: base64(novelty.whitening),
        projections: base64(novelty.projections),
      },
      // JSON has no -Infinity, which is that of a classifier without examples.
      gramThreshold: Number.isFinite(gramThreshold) ? gramThreshold : null,
    }),
  )
}

/**
 * Decodes a stored classifier.
 *
 * @throws AppError `internal_error` for bytes that `encodeClassifier` of this version did not write
 */
export function decodeClassifier(bytes: Uint8Array): DomainClassifier {
  const parsed = bytes.length <= MAX_CLASSIFIER_BYTES ? stored.safeParse(parse(bytes)) : null
  if (!parsed?.success) {
    throw new AppError(
      'internal_error',
      'The stored classifier of domains cannot be read. It must be trained again.',
      {
        cause: parsed?.error,
      },
    )
  }
  const { version: _, gramThreshold, ...classifier } = parsed.data
  return { ...classifier, gramThreshold: gramThreshold ?? -Infinity }
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
  } catch {
    return undefined
  }
}

function encodeMachine({ weights, bias, sharpness }: LinearMachine) {
  return { weights: base64(weights), bias: base64(bias), sharpness }
}

function base64(values: Float32Array): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  let text = ''
  for (let at = 0; at < bytes.length; at += 0x8000)
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000))
  return btoa(text)
}

function atobLength(text: string): number {
  return (text.length / 4) * 3 - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0)
}
