import { AppError } from '@copal/shared/errors.ts'

/**
 * Reads a request's body, at most `maxBytes` of it, counting while it arrives: a declared length is
 * only the first thing that is looked at.
 *
 * @throws AppError `body_too_large`
 */
export async function readBody(request: Request, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) throw tooLarge(maxBytes)
  if (!request.body) return new Uint8Array(0)
  const { bytes, cut } = await collect(request.body, maxBytes)
  if (cut) throw tooLarge(maxBytes)
  return bytes
}

/** Gathers a stream, at most `maxBytes` of it; `cut` says that there was more, which is cancelled unread. */
export async function collect(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; cut: boolean }> {
  const chunks: Uint8Array[] = []
  let sizeBytes = 0
  const reader = stream.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    chunks.push(value)
    sizeBytes += value.byteLength
    if (sizeBytes > maxBytes) {
      await reader.cancel()
      break
    }
  }
  const bytes = new Uint8Array(Math.min(sizeBytes, maxBytes))
  let offset = 0
  for (const chunk of chunks) {
    const taken = chunk.subarray(0, maxBytes - offset)
    bytes.set(taken, offset)
    offset += taken.byteLength
  }
  return { bytes, cut: sizeBytes > maxBytes }
}

/**
 * The text of a body.
 *
 * @throws AppError `invalid_request` when it is not UTF-8.
 */
export function decodeBody(body: Uint8Array<ArrayBuffer>): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(body)
  } catch (cause) {
    throw new AppError('invalid_request', 'The request body is not valid UTF-8.', { cause })
  }
}

function tooLarge(maxBytes: number): AppError {
  const limit = maxBytes >= 1024 * 1024 ? `${maxBytes / (1024 * 1024)} MiB` : `${maxBytes / 1024} KiB`
  return new AppError('body_too_large', `The request body is larger than ${limit}, the most that this path takes.`)
}
