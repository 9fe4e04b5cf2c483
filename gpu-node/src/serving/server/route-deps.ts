import { LIMITS } from '@copal/shared/wire/inference-fields.ts'
import type { Grammars } from '../grammar/grammar-compiler.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { Encoder } from './encoder.ts'
import type { Generate } from './generate-response.ts'

/** The gateway wraps the client's body in a few fields of its own. */
export const CALL_BYTES = LIMITS.bodyBytes + 64 * 1024

/** What the routes that generate are made of. */
export interface InferenceDeps {
  model: Pick<DenseModel, 'codec' | 'config'>
  encoder: Encoder
  /** Compiles what answers are kept to. */
  grammars: Grammars
  generate: Generate
  read: ReadCall
}

/** The value of a signed call of at most so many bytes. */
export type ReadCall = (request: Request, maxBytes: number) => Promise<unknown>
