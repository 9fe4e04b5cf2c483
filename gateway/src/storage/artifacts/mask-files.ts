import { AppError } from '@copal/shared/errors.ts'
import { readMaskHeader, type MaskHeader } from '@copal/shared/mask/mask-header.ts'
import { maskInvalid } from '@copal/shared/mask/mask-error.ts'
import { MASK_PART_BYTES, MAX_MASK_PARTS } from '@copal/shared/wire/mask-parts.ts'
import { maskKey } from './artifact-keys.ts'

/**
 * Largest mask file, with or without values: a weights file takes about 1.1 bytes a weight at half sparsity. It is
 * streamed into R2 and never held in memory, so this bounds abuse only; R2 takes no more than 5 GiB at once.
 */
export const MAX_FILE_BYTES = MASK_PART_BYTES * MAX_MASK_PARTS
/** More than the header of any mask takes: about 300 bytes a linear. */
const MAX_HEADER_BYTES = 4 * 1024 * 1024
/** R2 ends its messages with a code: this one is that of bytes that do not have their checksum. */
const BAD_DIGEST = '(10037)'

/**
 * Streams a request's body into R2 as a mask file; what is no mask file is not kept.
 *
 * @returns whether it is new; one that was there stays
 * @throws AppError `invalid_request`, `body_too_large`, `mask_invalid`, `service_unavailable`
 */
export async function storeMaskFile(
  artifacts: R2Bucket,
  sha256: string,
  request: Pick<Request, 'headers' | 'body'>,
): Promise<boolean> {
  const body = requireBody(request, 'A mask file', MAX_FILE_BYTES)
  if (await artifacts.head(maskKey(sha256))) {
    // A body that is left unread breaks the connection before the sender has the answer.
    await body.pipeTo(new WritableStream())
    return false
  }
  return keepMask(artifacts, sha256, () => artifacts.put(maskKey(sha256), body, { sha256 }))
}

/**
 * Stores a mask file by `put`, in which R2 checks the hash, and looks at its header then.
 *
 * @returns whether it is new
 * @throws AppError `mask_invalid`, or what {@link notStored} tells; nothing is kept then
 */
export async function keepMask(
  artifacts: R2Bucket,
  sha256: string,
  put: () => Promise<unknown>,
): Promise<boolean> {
  const key = maskKey(sha256)
  try {
    await put()
  } catch (cause) {
    if (await artifacts.head(key)) return false
    throw notStored('mask', sha256, cause)
  }
  try {
    await readStoredHeader(artifacts, sha256)
  } catch (error) {
    await artifacts.delete(key)
    throw error
  }
  return true
}

/**
 * Why bytes were not stored: `mask_invalid` when they do not have their hash. Of anything else R2, or the connection, is
 * at fault, which passes: `service_unavailable`.
 */
export function notStored(what: 'mask' | 'part', sha256: string, cause: unknown): AppError {
  if (cause instanceof AppError) return cause
  if (cause instanceof Error && cause.message.endsWith(BAD_DIGEST)) {
    const message = `The bytes sent do not have the SHA-256 ${sha256}. Send the ${what} again.`
    return new AppError('mask_invalid', message, { cause })
  }
  console.error(`The ${what} ${sha256} is not stored:`, cause)
  const message = `The ${what} did not arrive whole, or cannot be stored now. Send it again.`
  return new AppError('service_unavailable', message, { cause, retryAfterS: 5 })
}

/**
 * The body of a request that says how long it is.
 *
 * @param what is sent, at the beginning of a sentence
 * @throws AppError `invalid_request`, `body_too_large`, `mask_invalid` when it is empty
 */
export function requireBody(
  { headers, body }: Pick<Request, 'headers' | 'body'>,
  what: string,
  maxBytes: number,
): NonNullable<Request['body']> {
  const sizeBytes = Number(headers.get('content-length') ?? Number.NaN)
  if (!Number.isSafeInteger(sizeBytes) || !body) {
    throw new AppError('invalid_request', `${what} must be sent with a 'content-length'.`)
  }
  if (sizeBytes > maxBytes) {
    throw new AppError(
      'body_too_large',
      `${what} has at most ${maxBytes / 1024 / 1024} MiB, this one has ${sizeBytes} bytes.`,
    )
  }
  if (sizeBytes === 0) throw maskInvalid('it is empty')
  return body
}

/**
 * The header of a mask file in R2.
 *
 * @throws AppError `mask_invalid` when the object is no mask file
 */
export async function readStoredHeader(artifacts: R2Bucket, sha256: string): Promise<MaskHeader> {
  const object = await artifacts.get(maskKey(sha256), { range: { offset: 0, length: MAX_HEADER_BYTES } })
  if (!object) throw new AppError('internal_error', `Mask ${sha256} is gone right after it was stored.`)
  const header = readMaskHeader(new Uint8Array(await object.arrayBuffer()))
  if (header.fileBytes !== object.size) {
    throw maskInvalid(`its header describes ${header.fileBytes} bytes, it has ${object.size}`)
  }
  return header
}
