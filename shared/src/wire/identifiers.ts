/** Identifiers, counts and times of the admin API and of the protocol between gateway and nodes. */
import { z } from 'zod'

/** A SHA-256 in lower-case hex. */
export const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'expected a SHA-256 in lower-case hex')

/** The id of a model, without version. */
export const modelId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/)

/** A count: a whole number, 0 or more. */
export const count = z.int().min(0)

/** A time: ISO 8601, UTC. */
export const time = z.iso.datetime()

/** A registered mask: its version for the model, and the SHA-256 of its file. Dense (version 0) has no file. */
export const maskRef = z.object({ version: z.int().min(1), sha256: sha256Hex })

/**
 * Proof that the gateway sent a request to a node. Nodes return it unchanged with their receipts and scores, which count for
 * nothing without a valid one.
 */
export const attestation = sha256Hex.optional()

/** The trace context of a sampled span, as the W3C header has it; absent where nothing is traced. */
export const traceparent = z
  .string()
  .regex(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/, 'expected a sampled W3C traceparent')
  .optional()
