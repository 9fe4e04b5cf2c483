import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describeSystemError } from '@copal/gpu-node/platform/system-error.ts'
import { decodeUtf8 } from '@copal/gpu-node/platform/utf-8.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'

/**
 * Reads a text file.
 *
 * @throws UserError `file_unreadable`; `not_utf8` with the offset of the first wrong byte; `file_empty`.
 */
export function readTextFile(name: string, cwd: string): string {
  let bytes: Buffer
  try {
    bytes = readFileSync(resolve(cwd, name))
  } catch (cause) {
    const fault = describeSystemError(cause, cwd, name)
    if (fault === undefined) throw cause
    throw new UserError('file_unreadable', `${fault}.`, { cause })
  }
  const decoded = decodeUtf8(bytes)
  if ('offset' in decoded) {
    throw new UserError(
      'not_utf8',
      `${name} is not UTF-8: byte ${decoded.byte} at offset ${decoded.offset}. Convert it to UTF-8 first (iconv -t utf-8).`,
    )
  }
  if (decoded.text.trim() === '') throw new UserError('file_empty', `${name} contains no text.`)
  return decoded.text
}

/**
 * Splits a text at blank lines into texts of about `targetCharacters`, so that one file gives a domain many samples. A
 * longer paragraph is split at a line end, else at a space, else anywhere.
 */
export function splitIntoTexts(text: string, targetCharacters: number): string[] {
  const texts: string[] = []
  let current = ''
  for (const paragraph of text
    .split(/\r?\n[ \t]*\r?\n/)
    .flatMap((part) => splitParagraph(part, targetCharacters))) {
    if (paragraph.trim() === '') continue
    if (current !== '' && current.length + paragraph.length > targetCharacters) {
      texts.push(current)
      current = ''
    }
    current += current === '' ? paragraph : `\n\n${paragraph}`
  }
  if (current !== '') texts.push(current)
  return texts
}

function splitParagraph(paragraph: string, limit: number): string[] {
  const pieces: string[] = []
  let rest = paragraph
  while (rest.length > limit) {
    const line = rest.lastIndexOf('\n', limit)
    const blank = rest.lastIndexOf(' ', limit)
    const at = line > limit / 2 ? line : blank > limit / 2 ? blank : limit
    // Never splits a surrogate pair.
    const end = /[\uD800-\uDBFF]/.test(rest[at - 1] ?? '') ? at - 1 : at
    pieces.push(rest.slice(0, end))
    rest = rest.slice(end)
  }
  return [...pieces, rest]
}
