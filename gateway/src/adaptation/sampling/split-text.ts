import { truncateToBytes } from './text-bytes.ts'

/**
 * Splits a long text into pieces of at most `maxCharacters`, so that an import is not held out as a whole or not at all.
 *
 * Splits after a blank line if there is one in the second half of the piece, otherwise after a line, a sentence or a
 * space. Only the white space around pieces is lost; no piece is empty.
 */
export function splitText(text: string, maxCharacters: number): string[] {
  const pieces: string[] = []
  let from = 0
  while (from < text.length) {
    const end =
      text.length - from <= maxCharacters ? text.length : from + cutAt(text.slice(from, from + maxCharacters))
    const piece = text.slice(from, end).trim()
    if (piece) pieces.push(piece)
    from = end
  }
  return pieces
}

const BORDERS = ['\n\n', '\n', '. ', ' ']

function cutAt(window: string): number {
  for (const border of BORDERS) {
    const at = window.lastIndexOf(border)
    if (at >= window.length / 2) return at + border.length
  }
  return window.isWellFormed() ? window.length : window.length - 1
}

/** Maximum characters that a beginning is shorter than it may be, so that it ends after a word. */
const MAX_LOSS = 64

/** Returns the beginning of a text, at most `maxBytes` of UTF-8, which ends after a word where one ends near there. */
export function beginningOf(text: string, maxBytes: number): string {
  const cut = truncateToBytes(text, maxBytes)
  if (cut === text) return text
  const words = /^.*\S(?=\s)/su.exec(text.slice(0, cut.length + 1))?.[0] ?? ''
  return words.length > Math.max(0, cut.length - MAX_LOSS) ? words : cut
}
