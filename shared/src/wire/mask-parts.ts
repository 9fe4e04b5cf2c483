import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { sha256Hex } from './identifiers.ts'

/** Size of the parts that a larger mask file is sent in: Cloudflare accepts no request body above 100 MB. */
export const MASK_PART_BYTES = 64 * 1024 * 1024

/** Maximum number of parts of a mask file. */
export const MAX_MASK_PARTS = 64

/**
 * Body of `POST …/masks/:sha256`, which joins the parts sent by `PUT …/masks/:sha256/parts/:part`: the SHA-256 of each
 * part, in file order.
 */
export const joinMaskParts = z.object({ parts: boundedArray(sha256Hex).min(1).max(MAX_MASK_PARTS) })
