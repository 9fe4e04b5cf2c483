import { AppError } from '@copal/shared/errors.ts'
import { MAX_MASK_HEADER_BYTES, readMaskHeader, type MaskHeader } from '@copal/shared/mask/mask-header.ts'
import { maskInvalid } from '@copal/shared/mask/mask-error.ts'
import { MASK_PART_BYTES, MAX_MASK_PARTS } from '@copal/shared/wire/mask-parts.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { maskKey } from './artifact-keys.ts'
import { claimFile } from './file-claims.ts'

/** What storing a mask file needs. */
export type MaskFileDeps = Pick<Deps, 'db' | 'artifacts' | 'nowMs'>

/**
 * The maximum size of a mask file, with or without values. A weights file has about 1.1 bytes per weight at half sparsity.
 * It is streamed into R2 and never held in memory, so this only bounds abuse; R2 accepts at most 5 GiB at once.
 */
export const MAX_FILE_BYTES = MASK_PART_BYTES * MAX_MASK_PARTS
/** The code at the end of R2's error message if bytes do not match their checksum. */
const BAD_DIGEST = '(10037)'

/**
 * Streams a request's body into R2 as a mask file, unless it exists; invalid files are deleted again.
 *
 * @throws AppError `invalid_request`, `body_too_large`, `mask_invalid`, `service_unavailable`
 */
export async function storeMaskFile(
  deps: MaskFileDeps,
  sha256: string,
  request: Pick<Request, 'headers' | 'body'>,
): Promise<void> {
  const { artifacts } = deps
  const body = requireSizedBody(request, 'A mask file', MAX_FILE_BYTES)
  // Before it is looked up: an existing file may be about to be deleted.
  await claimFile(deps, maskKey(sha256))
  if (await artifacts.head(maskKey(sha256))) {
    // Read the body, because otherwise the connection breaks before the sender receives the response.
    await body.pipeTo(new WritableStream())
    return checkStoredMask(artifacts, sha256)
  }
  return storeCheckedMask(artifacts, sha256, () => artifacts.put(maskKey(sha256), body, { sha256 }))
}

/**
 * Stores a mask file by `put`, during which R2 checks the hash, and then checks its header.
 *
 * @throws AppError `mask_invalid`, or the result of {@link storageError}
 */
export async function storeCheckedMask(
  artifacts: R2Bucket,
  sha256: string,
  put: () => Promise<unknown>,
): Promise<void> {
  try {
    await put()
  } catch (cause) {
    // Another call may have stored it meanwhile.
    if (!(await artifacts.head(maskKey(sha256)))) throw storageError('mask', sha256, cause)
  }
  await checkStoredMask(artifacts, sha256)
}

/**
 * Checks the header of a stored mask file, and deletes an invalid file. One that R2 cannot read now stays, because another call may
 * have stored it too; it is checked when it is sent again.
 *
 * @throws AppError `mask_invalid`, or the result of {@link storageError}
 */
export async function checkStoredMask(artifacts: R2Bucket, sha256: string): Promise<void> {
  try {
    await readStoredHeader(artifacts, sha256)
  } catch (error) {
    if (error instanceof AppError && error.code === 'mask_invalid') await artifacts.delete(maskKey(sha256))
    throw storageError('mask', sha256, error)
  }
}

/**
 * Creates the error of bytes that were not stored: `mask_invalid` if they do not match their hash, otherwise
 * `service_unavailable`, because R2 or the connection failed temporarily.
 */
export function storageError(what: 'mask' | 'part', sha256: string, cause: unknown): AppError {
  if (cause instanceof AppError) return cause
  if (cause instanceof Error && cause.message.endsWith(BAD_DIGEST)) {
    const message = `The bytes sent do not have the SHA-256 ${sha256}. Send the ${what} again.`
    return new AppError('mask_invalid', message, { cause })
  }
  console.error(`Cannot store the ${what} ${sha256}:`, cause)
  const message = `The ${what} did not arrive completely, or cannot be stored now. Send it again.`
  return new AppError('service_unavailable', message, { cause, retryAfterS: 5 })
}

/**
 * Returns the body of a request that declares its length.
 *
 * @param what the name of the body, for the beginning of an error message
 * @throws AppError `invalid_request`, `body_too_large`; `mask_invalid` if it is empty
 */
export function requireSizedBody(
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
 * Reads the header of a mask file in R2 that was just stored.
 *
 * @throws AppError `mask_invalid` if the object is no mask file
 */
export async function readStoredHeader(artifacts: R2Bucket, sha256: string): Promise<MaskHeader> {
  const header = await findStoredHeader(artifacts, sha256)
  if (header) return header
  throw new AppError('internal_error', `Mask ${sha256} is gone right after it was stored.`)
}

/**
 * Reads the header of a mask file in R2; undefined if there is no such file.
 *
 * @throws AppError `mask_invalid` if the object is no mask file
 */
export async function findStoredHeader(artifacts: R2Bucket, sha256: string): Promise<MaskHeader | undefined> {
  const object = await artifacts.get(maskKey(sha256), { range: { offset: 0, length: MAX_MASK_HEADER_BYTES } })
  if (!object) return undefined
  const header = readMaskHeader(new Uint8Array(await object.arrayBuffer()))
  if (header.fileBytes !== object.size) {
    throw maskInvalid(`its header describes ${header.fileBytes} bytes, it has ${object.size}`)
  }
  return header
}
