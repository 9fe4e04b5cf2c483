/** Statistics artifacts as nodes store them at the gateway: a manifest, and the files of blocks in pieces named by their hash. */
import { z } from 'zod'
import { boundedArray, boundedRecord } from './bounded-collections.ts'
import { count, modelId, sha256Hex } from './identifiers.ts'
import { domainName } from './inference-fields.ts'

/** Maximum size of a piece: Cloudflare accepts no request body above 100 MB. */
export const STATISTICS_PIECE_BYTES = 64 * 1024 * 1024
/** Maximum size of a manifest. */
export const MAX_STATISTICS_MANIFEST_BYTES = 8 * 1024 * 1024
/** Name of the manifest beside the pieces. It is stored last, so that an artifact with a manifest is complete. */
export const STATISTICS_MANIFEST = 'manifest.json'

/** One decoder block of an artifact. */
const statisticsBlock = z.object({
  /** SHA-256 of each tensor's bytes, by name. */
  tensors: boundedRecord(64, 'tensors', z.record(z.string().max(128), sha256Hex)),
  /** The pieces of the block's file, in order. */
  pieces: boundedArray(
    z.object({ sha256: sha256Hex, bytes: z.int().min(1).max(STATISTICS_PIECE_BYTES) }),
  ).min(1),
})

/** The manifest of a statistics artifact. */
export const statisticsManifest = z.object({
  formatVersion: count,
  artifact: sha256Hex,
  model: modelId,
  baseSha256: sha256Hex,
  domain: domainName,
  parts: boundedArray(z.object({ id: sha256Hex, datasetSha256: sha256Hex, tokens: count }))
    .min(1)
    .max(10_000),
  blocks: boundedArray(statisticsBlock).min(1).max(1024),
})

/** The manifest of a statistics artifact. */
export type StatisticsManifest = z.output<typeof statisticsManifest>
