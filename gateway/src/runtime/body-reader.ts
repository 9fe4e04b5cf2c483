import { AppError } from '@copal/shared/errors.ts'
import { collectBytes } from './collect-bytes.ts'

/**
 * How much of a refused body is still taken in, unread: a client that is cut off while it sends sees a
 * lost connection instead of the refusal.
 */
const MAX_DRAIN_BYTES = 64 * 1024 * 1024

/**
 * Reads a request's body, at most `maxBytes` of it, counting while it arrives: a declared length is
 * only the first thing that is looked at.
 *
 * @throws AppError `body_too_large`, `client_closed_request` when it breaks off
 */
export async function readBody(request: Request, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const declared = request.headers.get('content-length')
  const declaredBytes = Number(declared ?? 0)
  // HTTP sees to it that no more than is declared arrives; read by the runtime it costs no JavaScript a chunk.
  if (declared !== null && declaredBytes <= maxBytes) {
    const bytes = new Uint8Array(await request.arrayBuffer().catch(brokenOff))
    if (bytes.byteLength <= maxBytes) return bytes
    throw tooLarge(maxBytes)
  }
  if (!request.body) return new Uint8Array(0)
  const keptBytes = declaredBytes > maxBytes ? 0 : maxBytes
  const { bytes, cut } = await collectBytes(request.body, keptBytes, MAX_DRAIN_BYTES).catch(brokenOff)
  if (cut) throw tooLarge(maxBytes)
  return bytes
}

function brokenOff(cause: unknown): never {
  throw new AppError('client_closed_request', 'The client left before it had sent the whole request body.', {
    cause,
  })
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

/**
 * The text of a body.
 *
 * @throws AppError `invalid_request` when it is not UTF-8.
 */
export function decodeBody(body: Uint8Array<ArrayBuffer>): string {
  try {
    return strictUtf8.decode(body)
  } catch (cause) {
    throw new AppError('invalid_request', 'The request body is not valid UTF-8.', { cause })
  }
}

function tooLarge(maxBytes: number): AppError {
  const limit = maxBytes >= 1024 * 1024 ? `${maxBytes / (1024 * 1024)} MiB` : `${maxBytes / 1024} KiB`
  return new AppError(
    'body_too_large',
    `The request body is larger than ${limit}, the most that this path takes.`,
  )
}
