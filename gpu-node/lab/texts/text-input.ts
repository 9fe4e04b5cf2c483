import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { AppError } from '@copal/shared/errors.ts'
import { isErrno } from '@copal/gpu-node/platform/errno.ts'
import { describeSystemError } from '@copal/gpu-node/platform/system-error.ts'
import { decodeUtf8 } from '@copal/gpu-node/platform/utf-8.ts'

/** The contents of a text file. */
export interface TextInput {
  /** One text for a plain file, one per line for newline-delimited JSON. */
  texts: string[]
  /**
   * Hash of the decompressed bytes; for newline-delimited JSON also of the field's name, because the same bytes read as
   * plain text are a different input.
   */
  sha256: string
}

/** Maximum size; JavaScript strings hold about half a billion characters. */
const MAX_BYTES = 400_000_000

/**
 * Reads a plain text, or newline-delimited JSON (`.jsonl`, `.ndjson`) whose `field` holds the text. Either may be
 * gzipped (`.gz`).
 *
 * @param cwd base of relative paths
 * @throws AppError `invalid_request` naming the file and the invalid offset or line
 */
export async function readTextInput(path: string, field: string, cwd: string): Promise<TextInput> {
  const bytes = await readBytes(path, cwd)
  if (bytes.length > MAX_BYTES) {
    throw textInputError(
      path,
      `has ${Math.ceil(bytes.length / 1e6)} MB of text, but at most ${MAX_BYTES / 1e6} MB are allowed. Use a part of it`,
    )
  }
  const decoded = decodeUtf8(bytes)
  if ('offset' in decoded) {
    const where = path.endsWith('.gz') ? ' after decompression' : ''
    throw textInputError(
      path,
      `is not UTF-8: byte ${decoded.byte} at offset ${decoded.offset}${where}. Convert it first (iconv -t utf-8)`,
    )
  }
  const isJson = /\.(jsonl|ndjson)(\.gz)?$/i.test(path)
  const texts = isJson ? parseLines(path, decoded.text, field) : [decoded.text]
  if (texts.every((text) => text.trim() === '')) throw textInputError(path, 'contains no text')
  const hash = createHash('sha256').update(bytes)
  if (isJson) hash.update(`\0${field}`)
  return { texts, sha256: hash.digest('hex') }
}

async function readBytes(path: string, cwd: string): Promise<Buffer> {
  let bytes: Buffer
  try {
    bytes = await readFile(resolve(cwd, path))
  } catch (cause) {
    const fault = describeSystemError(cause, cwd, path)
    if (fault === undefined) throw cause
    throw new AppError('invalid_request', `${fault}.`, { cause })
  }
  if (!path.endsWith('.gz')) return bytes
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: MAX_BYTES + 1 })
  } catch (cause) {
    if (isErrno(cause, 'ERR_BUFFER_TOO_LARGE'))
      throw textInputError(
        path,
        `unpacks to more than ${MAX_BYTES / 1e6} MB of text. Use a part of it`,
        cause,
      )
    throw textInputError(
      path,
      'is not a complete gzip file. Fetch it again, or remove .gz from its name if it is not compressed',
      cause,
    )
  }
}

function parseLines(path: string, content: string, field: string): string[] {
  const texts: string[] = []
  for (const [index, line] of content.split('\n').entries()) {
    if (line.trim() === '') continue
    let value: unknown
    try {
      value = JSON.parse(line)
    } catch (cause) {
      throw textInputError(path, `line ${index + 1} is not JSON`, cause)
    }
    const fields = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
    const text = fields[field]
    if (typeof text !== 'string') {
      const names = Object.keys(fields).slice(0, 8).join(', ')
      throw textInputError(
        path,
        `line ${index + 1} has no text in the field '${field}'${names && ` (it has: ${names})`}. Name the field with --field`,
      )
    }
    if (text !== '') texts.push(text)
  }
  return texts
}

function textInputError(path: string, reason: string, cause?: unknown): AppError {
  return new AppError('invalid_request', `${path} ${reason}.`, cause === undefined ? {} : { cause })
}
