import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import { LATE_HEADER, MAX_RESPONSE_BYTES } from '@copal/shared/wire/node-calls.ts'
import { collectBytes } from '../../runtime/collect-bytes.ts'
import { maskOfFingerprint } from './first-event.ts'
import {
  nodeError,
  connectionLost,
  NodeCallError,
  abortError,
  type NodeAddress,
  type NodeResponse,
} from './node-client.ts'

const SPACE = 0x20
const CLOSING_BRACE = 0x7d
/** The bytes of a late response that name its mask or show that it is an error: a few fields and the longest model name. */
const MASK_SEARCH_BYTES = 2048

/**
 * Reads the whole body of a response into one buffer.
 *
 * @throws NodeCallError like `callNode`, and `invalid_request` if the body is larger than `MAX_RESPONSE_BYTES`
 */
export async function readWholeResponse(
  node: NodeAddress,
  response: NodeResponse,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    if (!response.rest) return response.first
    const { bytes, cut } = await collectBytes(response.rest, MAX_RESPONSE_BYTES, 0, response.first)
    if (cut) throw tooLarge()
    return response.headers.has(LATE_HEADER) ? parseLateBody(response, bytes) : bytes
  } catch (cause) {
    if (cause instanceof NodeCallError) throw cause
    throw signal.aborted ? abortError(signal) : connectionLost(node, cause)
  }
}

/** Creates the error of a response that is too large on every node. */
function tooLarge(): NodeCallError {
  const message =
    `The response is larger than ${MAX_RESPONSE_BYTES / (1024 * 1024)} MiB, the maximum without streaming. Stream it, or ` +
    'ask for fewer choices, tokens, log-probabilities or embeddings, or for base64 embeddings.'
  return new NodeCallError(new AppError('invalid_request', message), 'ended')
}

/**
 * Returns a late body without its leading spaces, and sets the header `x-copal-mask`, which was not known before. Only the
 * beginning is searched, because nodes write these fields first.
 */
function parseLateBody({ headers }: NodeResponse, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const body = bytes.subarray(bytes.findIndex((byte) => byte !== SPACE))
  if (body.at(-1) !== CLOSING_BRACE) throw new Error('the body is no JSON object')
  const beginning = new TextDecoder().decode(body.subarray(0, MASK_SEARCH_BYTES))
  const error = beginning.startsWith('{"error"') && parseErrorBody(JSON.parse(new TextDecoder().decode(body)))
  if (error) throw nodeError(error, Number.NaN)
  const version = maskOfFingerprint(beginning)
  if (version !== undefined) headers.set('x-copal-mask', version)
  return body
}
