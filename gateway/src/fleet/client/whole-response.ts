import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import { LATE_HEADER, MAX_RESPONSE_BYTES } from '@copal/shared/wire/node-calls.ts'
import { collectBytes } from '../../runtime/collect-bytes.ts'
import { maskOf } from './first-event.ts'
import {
  answered,
  brokenOff,
  NodeCallError,
  whyAborted,
  type NodeAddress,
  type NodeAnswer,
} from './node-client.ts'

const SPACE = 0x20
const CLOSING_BRACE = 0x7d
/** A late answer names its mask, or is an error, within so many bytes: the longest name of a model and a few fields. */
const BEGINNING_BYTES = 2048

/**
 * The whole body of an answer, in one buffer.
 *
 * @throws NodeCallError like `callNode`, and `invalid_request` when there is more of it than can be held.
 */
export async function readWholeResponse(
  node: NodeAddress,
  answer: NodeAnswer,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    if (!answer.rest) return answer.first
    const { bytes, cut } = await collectBytes(answer.rest, MAX_RESPONSE_BYTES, 0, answer.first)
    if (cut) throw tooLarge()
    return answer.headers.has(LATE_HEADER) ? readLate(answer, bytes) : bytes
  } catch (cause) {
    if (cause instanceof NodeCallError) throw cause
    throw signal.aborted ? whyAborted(signal) : brokenOff(node, cause)
  }
}

/** No node gives less of it. */
function tooLarge(): NodeCallError {
  const message =
    `The answer is larger than ${MAX_RESPONSE_BYTES / (1024 * 1024)} MiB, the most that is given at once. Stream it, or ` +
    'ask for fewer choices, tokens or log-probabilities; for fewer embeddings, or for base64.'
  return new NodeCallError(new AppError('invalid_request', message), 'refused', { worked: true })
}

/**
 * What came behind the spaces of a late answer; sets its `x-copal-mask`, which could not be told before. Only its
 * beginning is looked at: nodes write these fields first.
 */
function readLate({ headers }: NodeAnswer, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const body = bytes.subarray(bytes.findIndex((byte) => byte !== SPACE))
  if (body.at(-1) !== CLOSING_BRACE) throw new Error('the answer is no JSON object')
  const beginning = new TextDecoder().decode(body.subarray(0, BEGINNING_BYTES))
  const error = beginning.startsWith('{"error"') && parseErrorBody(JSON.parse(new TextDecoder().decode(body)))
  if (error) throw answered(error, Number.NaN)
  const version = maskOf(beginning)
  if (version !== undefined) headers.set('x-copal-mask', version)
  return body
}
