import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { sha256Hex } from './node-rpc.ts'

/** A mask file above this size is sent in parts of it: Cloudflare takes no request body above 100 MB. */
export const MASK_PART_BYTES = 64 * 1024 * 1024

/** Parts that a mask file may have. */
export const MAX_MASK_PARTS = 64

/**
 * Body of `POST …/masks/:sha256`, which joins what was sent by `PUT …/masks/:sha256/parts/:part`: the SHA-256 of
 * each part, in the order of the file.
 */
export const joinMaskParts = z.object({ parts: boundedArray(sha256Hex).min(1).max(MAX_MASK_PARTS) })
