import { LIMITS } from '@copal/shared/wire/inference-fields.ts'
import type { GrammarCompiler } from '../../grammar/grammar-compiler.ts'
import type { WorkOwner } from '../../../platform/fair-serial-queue.ts'
import type { DenseModel } from '../../../model/master/dense-model.ts'
import type { Encoder } from '../prompts/encoder.ts'
import type { Generate } from '../generation/generate-response.ts'

/** Largest body of a call: that of a client, and the fields that the gateway adds. */
export const MAX_CALL_BYTES = LIMITS.bodyBytes + 64 * 1024

/** Parts of the routes that generate. */
export interface InferenceRouteDeps {
  model: Pick<DenseModel, 'codec' | 'config'>
  encoder: Encoder
  /** Compiles the grammars of structured output. */
  grammars: GrammarCompiler
  generate: Generate
  read: ReadCall
}

/** Reads the JSON value of a signed call of at most `maxBytes`. */
export type ReadCall = (request: Request, maxBytes: number) => Promise<unknown>

/** Returns whose work a call is. */
export function ownerOf({ tenant, account }: WorkOwner): WorkOwner {
  return { tenant, account }
}
