import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { AppError } from '@copal/shared/errors.ts'
import { parse, parseJson } from '@copal/shared/wire/parse.ts'
import { textSample } from '@copal/shared/wire/node-rpc.ts'

/**
 * Decodes text from outside; a byte order mark is dropped.
 *
 * @param what names the text in the message, like a file's path
 * @throws AppError `invalid_request` that gives the first byte that is not UTF-8
 */
export function decodeUtf8Strict(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new AppError(
      'invalid_request',
      `${what} is not UTF-8 text: byte ${invalidByte(bytes)} is wrong. Convert it to UTF-8.`,
      { cause },
    )
  }
}

/**
 * The texts of a dataset file: newline-delimited `{"text": …}`.
 *
 * @throws AppError `invalid_request` when the file does not have the hash, or a line is not a sample
 */
export async function readDataset(path: string, sha256: string): Promise<string[]> {
  const bytes = await readFile(path)
  const actual = createHash('sha256').update(bytes).digest('hex')
  if (actual !== sha256) {
    throw new AppError(
      'invalid_request',
      `Dataset ${sha256}: the file at hand has the hash ${actual}. Fetch it again.`,
    )
  }
  return decodeUtf8Strict(bytes, `Dataset ${sha256}`)
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => parse(textSample, parseJson(line)).text)
}

/** Offset of the first byte at which a strict decoder stops. */
function invalidByte(bytes: Uint8Array): number {
  const chunkBytes = 65_536
  const fails = (decoder: InstanceType<typeof TextDecoder>, begin: number, end: number): boolean => {
    try {
      decoder.decode(bytes.subarray(begin, end), { stream: end < bytes.length })
      return false
    } catch {
      return true
    }
  }
  const coarse = new TextDecoder('utf-8', { fatal: true })
  let chunk = 0
  while (chunk < bytes.length && !fails(coarse, chunk, Math.min(chunk + chunkBytes, bytes.length)))
    chunk += chunkBytes
  const fine = new TextDecoder('utf-8', { fatal: true })
  for (let begin = 0; begin < chunk; begin += chunkBytes) fails(fine, begin, begin + chunkBytes)
  let at = chunk
  while (at < bytes.length && !fails(fine, at, at + 1)) at++
  return at
}
