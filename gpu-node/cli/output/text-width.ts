import stringWidth from 'string-width'

const GRAPHEMES = new Intl.Segmenter()

/** Returns how many columns of a terminal a text takes: Chinese characters and emoji take two, combining marks none. */
export function textWidth(text: string): number {
  return stringWidth(text)
}

/** Returns the beginning of a text that takes at most `width` columns; a character that does not fit is left out. */
export function fittingStart(text: string, width: number): string {
  return takeFitting(graphemesOf(text), width).join('')
}

/** Returns the first character of a text as people see it, with its marks. */
export function firstCharacter(text: string): string {
  return graphemesOf(text)[0] ?? ''
}

/** Returns the end of a text that takes at most `width` columns; a character that does not fit is left out. */
export function fittingEnd(text: string, width: number): string {
  return takeFitting(graphemesOf(text).toReversed(), width).toReversed().join('')
}

/** Appends blanks to a text until it takes `width` columns. */
export function padEnd(text: string, width: number): string {
  return text + padding(text, width)
}

/** Puts blanks before a text until it takes `width` columns. */
export function padStart(text: string, width: number): string {
  return padding(text, width) + text
}

function padding(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - textWidth(text)))
}

function graphemesOf(text: string): string[] {
  return Array.from(GRAPHEMES.segment(text), ({ segment }) => segment)
}

function takeFitting(graphemes: readonly string[], width: number): string[] {
  let room = width
  const end = graphemes.findIndex((grapheme) => (room -= textWidth(grapheme)) < 0)
  return end < 0 ? [...graphemes] : graphemes.slice(0, end)
}
