import { createHash } from 'node:crypto'
import { MASK_PART_BYTES } from '@copal/shared/wire/mask-parts.ts'

/** Uploads of a mask file to the gateway: as a whole, or in parts that the gateway joins. */
export interface MaskSender<Answer> {
  whole(file: Blob): Promise<Answer>
  part(bytes: Blob, sha256: string): Promise<unknown>
  /** @param parts the SHA-256 of each, in the order of the file */
  join(parts: string[]): Promise<Answer>
}

/**
 * Uploads a mask file, in parts when it exceeds the size limit of a request.
 *
 * @param partBytes for tests
 */
export async function sendMaskFile<Answer>(
  file: Blob,
  sender: MaskSender<Answer>,
  partBytes = MASK_PART_BYTES,
): Promise<Answer> {
  if (file.size <= partBytes) return sender.whole(file)
  const parts: string[] = []
  for (let begin = 0; begin < file.size; begin += partBytes) {
    const bytes = file.slice(begin, begin + partBytes)
    const sha256 = await sha256Of(bytes)
    await sender.part(bytes, sha256)
    parts.push(sha256)
  }
  return sender.join(parts)
}

async function sha256Of(bytes: Blob): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of bytes.stream()) hash.update(chunk)
  return hash.digest('hex')
}
