/**
 * Cuts a long text into pieces of at most `maxCharacters`, so that one import does not fall as a whole
 * into the holdout or out of it: behind a blank line where there is one in the second half, else behind
 * a line, a sentence, a space. No character is lost but the white space around a piece; a piece is never empty.
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
