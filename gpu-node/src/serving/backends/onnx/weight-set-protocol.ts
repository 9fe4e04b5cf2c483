import type { ErrorBody } from '@copal/shared/errors.ts'
import type { DecoderSessionOptions } from '../../../pruning/graph/decoder-session.ts'
import type { SequenceOutput, SequenceWork, TokenMask } from '../../contract/backend.ts'

/** What a weight set process loads; sent by structured clone. */
export interface LoadOptions extends DecoderSessionOptions {
  /** Yields the processor to everything else. */
  background: boolean
}

/** {@link SequenceWork} as it is sent: what may be sampled follows as {@link AllowedTokens}. */
export type SentWork = Omit<SequenceWork, 'allowed'> & { awaitsAllowed?: true }

/** Node to weight set process. Calls are answered one after another, in order. */
export type WeightSetCall =
  | { id: number; kind: 'load'; options: LoadOptions }
  | { id: number; kind: 'step'; work: readonly SentWork[]; drop: readonly number[] }
  | { id: number; kind: 'close' }

/** Node to weight set process, while step `step` runs: what its `index`-th work may sample. Not answered. */
export interface AllowedTokens {
  kind: 'allowed'
  step: number
  index: number
  mask: TokenMask | null
}

/** Weight set process to node: one for each call. `outputs` is empty but for steps. */
export type WeightSetReply = { id: number; outputs: SequenceOutput[] } | { id: number; failure: ErrorBody }
