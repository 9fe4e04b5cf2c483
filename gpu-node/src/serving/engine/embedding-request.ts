import type { WeightSet } from '../contract/backend.ts'
import type { GenerationOutcome } from './generation-request.ts'

/** One text to embed. */
export interface EmbedRequest {
  /** The caller's id, for progress reports. */
  id: string
  /** Index of the text among those of the call. */
  part?: number
  /** Token ids, at least one, at most the context length. */
  tokens: readonly number[]
  /** The weights to compute it with; null or omitted: those that are active at its first step. */
  weights?: WeightSet | null
  /** A text of the same call has ended, whose place this one takes: a full queue does not reject it. */
  takesPlace?: boolean
  /** Ends the request at once. */
  signal?: AbortSignal
}

/** An embedding: the mean over the tokens of the last hidden state, after the final norm. */
export interface Embedding {
  /** f32 `[hidden]`, not normalised to length 1. */
  embedding: Float32Array
  /** Version of the weights that computed all of it. */
  maskVersion: number
}

/** An embedding in progress. */
export interface EmbeddingCall {
  /** @throws AppError `client_closed_request` after a cancel, `node_failed` */
  readonly embedding: Promise<Embedding>
  /** The outcome for the receipt, as for a generation without tokens; `stop` means success. Never rejects. */
  readonly outcome: Promise<GenerationOutcome>
}
