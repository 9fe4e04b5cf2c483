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
