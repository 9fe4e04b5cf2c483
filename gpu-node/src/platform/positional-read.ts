import type { FileHandle } from 'node:fs/promises'
import { AppError } from '@copal/shared/errors.ts'

/** Largest size of one read call; no platform takes more than 2 GiB. */
const MAX_READ_BYTES = 2 ** 30

/**
 * Reads `bytes` bytes from `offset`, all of them.
 *
 * @throws AppError `unsupported_model` when the file ends before that
 */
export async function readExactly(
  file: FileHandle,
  offset: number,
  bytes: number,
  path: string,
): Promise<Buffer<ArrayBuffer>> {
  const buffer = Buffer.from(new ArrayBuffer(bytes))
  await readInto(file, offset, buffer, path)
  return buffer
}

/** {@link readExactly} into memory that is there: as many bytes as it has. */
export async function readInto(
  file: FileHandle,
  offset: number,
  buffer: Uint8Array,
  path: string,
): Promise<void> {
  const bytes = buffer.byteLength
  let done = 0
  while (done < bytes) {
    const length = Math.min(bytes - done, MAX_READ_BYTES)
    const { bytesRead } = await file.read(buffer, done, length, offset + done)
    if (bytesRead === 0) {
      throw new AppError(
        'unsupported_model',
        `${path} ends at byte ${offset + done}: it was cut short. Fetch it again.`,
      )
    }
    done += bytesRead
  }
}
