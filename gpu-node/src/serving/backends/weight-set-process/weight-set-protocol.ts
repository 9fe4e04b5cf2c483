import type { ErrorBody } from '@copal/shared/errors.ts'
import type { SequenceOutput, SequenceWork, TokenMask } from '../../contract/backend.ts'

/** {@link SequenceWork} as it is sent; its allowed tokens follow as {@link AllowedTokens}. */
export type SentWork = Omit<SequenceWork, 'allowed'> & { awaitsAllowed?: true }

/** A call of the node to a weight set process. Calls are processed one at a time, in order. */
export type WeightSetCall<Options> =
  | { id: number; kind: 'load'; options: Options }
  | { id: number; kind: 'step'; work: readonly SentWork[]; drop: readonly number[] }
  | { id: number; kind: 'close' }

/** A message of the node to a weight set process: the tokens that the `index`-th work of step `step` may sample. No reply. */
export interface AllowedTokens {
  kind: 'allowed'
  step: number
  index: number
  mask: TokenMask | null
}

/** The reply of a weight set process to a call. `outputs` is empty except for steps, and only loads name the `numerics`. */
export type WeightSetReply =
  | { id: number; outputs: SequenceOutput[]; numerics?: string | undefined }
  | { id: number; failure: ErrorBody }
