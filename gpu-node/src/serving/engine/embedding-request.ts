import type { WeightSet } from '../contract/backend.ts'
import type { GenerationOutcome } from './generation-request.ts'

/** One text to embed. */
export interface EmbedRequest {
  /** The caller's id, for reports of progress. */
  id: string
  /** Which of the caller's texts it is. */
  part?: number
  /** Token ids, at least one, at most the context. */
  tokens: readonly number[]
  /** The weights that shall make it; null or left out: those that are active at its first step. */
  weights?: WeightSet | null
  /** Ends it at once. */
  signal?: AbortSignal
  /** Milliseconds from now after which it fails with `deadline_exceeded`. */
  deadlineMs?: number | undefined
}

/** The mean over the tokens of the last hidden state, after the final norm. */
export interface Embedding {
  /** f32 `[hidden]`; its length is not 1: who compares directions normalises it. */
  embedding: Float32Array
  /** What made all of it. */
  maskVersion: number
}

/** An embedding under way. */
export interface EmbeddingCall {
  /** @throws AppError `client_closed_request` after a cancel, `deadline_exceeded`, `node_failed` */
  readonly embedding: Promise<Embedding>
  /** As of a generation without tokens, for the receipt; `stop` is its good end. Never rejects. */
  readonly outcome: Promise<GenerationOutcome>
}
