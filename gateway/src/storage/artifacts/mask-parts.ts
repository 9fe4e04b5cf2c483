import { DAY_MS } from '@copal/shared/day.ts'
import { AppError } from '@copal/shared/errors.ts'
import { MASK_PART_BYTES } from '@copal/shared/wire/mask-parts.ts'
import { MASK_PART_PREFIX, maskKey, maskPartKey } from './artifact-keys.ts'
import { claimFile } from './file-claims.ts'
import {
  checkStoredMask,
  storeCheckedMask,
  MAX_FILE_BYTES,
  storageError,
  requireSizedBody,
  type MaskFileDeps,
} from './mask-files.ts'

/** How long parts are kept until they are joined. */
const PART_LIFETIME_MS = DAY_MS

/**
 * Streams a part of a mask file into R2, which checks the part's hash. Sending the same part again changes nothing.
 *
 * @param sha256 the SHA-256 of the whole file
 * @param part the SHA-256 of the part
 * @throws AppError `invalid_request`, `body_too_large`, `mask_invalid`, `service_unavailable`
 */
export async function storeMaskPart(
  artifacts: R2Bucket,
  sha256: string,
  part: string,
  request: Pick<Request, 'headers' | 'body'>,
): Promise<void> {
  const body = requireSizedBody(request, 'A part of a mask file', MASK_PART_BYTES)
  try {
    await artifacts.put(maskPartKey(sha256, part), body, { sha256: part })
  } catch (cause) {
    throw storageError('part', part, cause)
  }
}

/**
 * Joins parts to a mask file in R2, without holding it in memory, and deletes the parts.
 *
 * @param parts the SHA-256 of each, in the order of the file
 * @throws AppError `not_found` if a part was not sent; `body_too_large`; `mask_invalid`; `service_unavailable`
 */
export async function joinMaskFile(
  deps: MaskFileDeps,
  sha256: string,
  parts: readonly string[],
): Promise<void> {
  const { artifacts } = deps
  await claimFile(deps, maskKey(sha256))
  if (await artifacts.head(maskKey(sha256))) await checkStoredMask(artifacts, sha256)
  else await join(artifacts, sha256, parts)
  await artifacts.delete([...new Set(parts)].map((part) => maskPartKey(sha256, part)))
}

/** Deletes parts that were not joined within a day. */
export async function deleteOldParts({
  artifacts,
  nowMs,
}: {
  artifacts: R2Bucket
  nowMs: () => number
}): Promise<void> {
  // One page of at most a thousand parts: the cron runs again in minutes.
  const { objects } = await artifacts.list({ prefix: MASK_PART_PREFIX })
  const old = objects.filter(({ uploaded }) => uploaded.getTime() < nowMs() - PART_LIFETIME_MS)
  if (old.length > 0) await artifacts.delete(old.map(({ key }) => key))
}

async function join(artifacts: R2Bucket, sha256: string, parts: readonly string[]): Promise<void> {
  const sizes = new Map<string, number>()
  for (const part of new Set(parts)) {
    const head = await artifacts.head(maskPartKey(sha256, part))
    if (!head) throw missing(sha256, part)
    sizes.set(part, head.size)
  }
  const sizeBytes = parts.reduce((sum, part) => sum + (sizes.get(part) ?? 0), 0)
  if (sizeBytes > MAX_FILE_BYTES) {
    throw new AppError('body_too_large', `A mask file has at most ${MAX_FILE_BYTES / 1024 / 1024} MiB.`)
  }
  // R2 accepts a stream only if its length is known.
  const { readable, writable } = new FixedLengthStream(sizeBytes)
  // Stops the copying if storing fails, because nothing reads the stream then.
  const unread = new AbortController()
  const store = async () => {
    try {
      await artifacts.put(maskKey(sha256), readable, { sha256 })
    } catch (error) {
      unread.abort(error)
      throw error
    }
  }
  return storeCheckedMask(artifacts, sha256, async () => {
    const [stored, copied] = await Promise.allSettled([
      store(),
      copyParts(artifacts, sha256, parts, writable, unread.signal),
    ])
    if (copied.status === 'rejected') throw copied.reason
    if (stored.status === 'rejected') throw stored.reason
  })
}

async function copyParts(
  artifacts: R2Bucket,
  sha256: string,
  parts: readonly string[],
  into: WritableStream,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (const part of parts) {
      const object = await artifacts.get(maskPartKey(sha256, part))
      if (!object) throw missing(sha256, part)
      await object.body.pipeTo(into, { preventClose: true, preventAbort: true, signal })
    }
  } catch (error) {
    await into.abort(error).catch(() => undefined)
    throw error
  }
  await into.close()
}

function missing(sha256: string, part: string): AppError {
  return new AppError(
    'not_found',
    `Part ${part} of the mask ${sha256} was not sent. Send it by PUT to …/masks/${sha256}/parts/${part}, then join the parts again.`,
  )
}
