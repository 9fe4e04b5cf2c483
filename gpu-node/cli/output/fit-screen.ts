import { firstCharacter, fittingStart, textWidth } from './text-width.ts'

/** The size of a terminal in columns and rows; a size that is not known, or 0 as in a terminal that was given none, bounds nothing. */
export interface ScreenSize {
  columns?: number | undefined
  rows?: number | undefined
}

/**
 * Returns text that fits a screen with the cursor below it: long lines are broken, and of too many lines the last says how many are
 * left out.
 */
export function fitScreen(text: string, size: ScreenSize): string {
  const columns = size.columns || Infinity
  const rows = size.rows || Infinity
  const lines = text.split('\n').flatMap((line) => breakLine(line, columns))
  if (lines.length < rows) return lines.join('\n')
  const shown = lines.slice(0, Math.max(0, rows - 2))
  const note = `… ${lines.length - shown.length} more lines: enlarge the window`
  return [...shown, fittingStart(note, columns)].join('\n')
}

/** Breaks a line at blanks, and words that are longer than a line where it ends. */
function breakLine(line: string, columns: number): string[] {
  const parts: string[] = []
  let rest = line
  while (textWidth(rest) > columns) {
    // A character that is wider than a line still has to go somewhere.
    const fitting = fittingStart(rest, columns) || firstCharacter(rest)
    const blank = rest.lastIndexOf(' ', fitting.length)
    const end = blank > 0 && rest.slice(0, blank).trim() !== '' ? blank : fitting.length
    parts.push(rest.slice(0, end).trimEnd())
    rest = rest.slice(end).trimStart()
  }
  return rest === '' && parts.length > 0 ? parts : [...parts, rest]
}
