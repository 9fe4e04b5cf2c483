import { AppError } from '@copal/shared/errors.ts'
import { collectBytes } from './collect-bytes.ts'

/**
 * How much of a rejected body is still received and dropped: a client whose connection closes while it sends sees a lost
 * connection instead of the error.
 */
const MAX_DRAIN_BYTES = 64 * 1024 * 1024

/**
 * Reads a request's body up to `maxBytes`. The bytes are counted as they arrive; the declared length is only checked first.
 *
 * @throws AppError `body_too_large`; `client_closed_request` if the connection breaks
 */
export async function readBody(request: Request, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const declared = request.headers.get('content-length')
  const declaredBytes = Number(declared ?? 0)
  // HTTP guarantees that no more than the declared length arrives. The runtime reads it without JavaScript per chunk.
  if (declared !== null && declaredBytes <= maxBytes) {
    const bytes = new Uint8Array(await request.arrayBuffer().catch(throwDisconnected))
    if (bytes.byteLength <= maxBytes) return bytes
    throw bodyTooLarge(maxBytes)
  }
  if (!request.body) return new Uint8Array(0)
  const maxKeptBytes = declaredBytes > maxBytes ? 0 : maxBytes
  const { bytes, cut } = await collectBytes(request.body, maxKeptBytes, MAX_DRAIN_BYTES).catch(
    throwDisconnected,
  )
  if (cut) throw bodyTooLarge(maxBytes)
  return bytes
}

function throwDisconnected(cause: unknown): never {
  throw new AppError(
    'client_closed_request',
    'The client disconnected before it had sent the whole request body.',
    {
      cause,
    },
  )
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

/**
 * Decodes a body.
 *
 * @throws AppError `invalid_request` if it is not UTF-8
 */
export function decodeBody(body: Uint8Array<ArrayBuffer>): string {
  try {
    return strictUtf8.decode(body)
  } catch (cause) {
    throw new AppError('invalid_request', 'The request body is not valid UTF-8.', { cause })
  }
}

function bodyTooLarge(maxBytes: number): AppError {
  const limit = maxBytes >= 1024 * 1024 ? `${maxBytes / (1024 * 1024)} MiB` : `${maxBytes / 1024} KiB`
  return new AppError(
    'body_too_large',
    `The request body is larger than ${limit}, the maximum for this path.`,
  )
}
