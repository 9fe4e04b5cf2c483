import { fittingEnd, fittingStart, padEnd, padStart, textWidth } from './text-width.ts'

/** One column of a table. */
export interface Column<Row> {
  title: string
  value: (row: Row) => string
  /** Numbers are aligned right. */
  align?: 'left' | 'right'
  /** Whether this column may shrink, down to 8 columns of the terminal, when the table is wider than the line. */
  shrinks?: boolean
}

const GAP = '  '
const MIN_WIDTH = 8

/**
 * Renders a table with no line longer than `width`. Columns that may shrink are cut with an ellipsis, the first in its middle; columns that
 * still do not fit follow in a second table, which repeats the first column. Then columns that were cut get the room that is left,
 * and one that does not fit beside the first column is cut.
 *
 * @returns lines without trailing blanks, joined by newlines
 */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  width: number,
): string {
  const cells = columns.map((column) => [column.title, ...rows.map((row) => printable(column.value(row)))])
  const wanted = cells.map((texts) => Math.max(...texts.map(textWidth)))
  const widths = [...wanted]
  shrink(columns, widths, width)
  const blocks = splitIntoBlocks(widths, width)
  widen(widths, wanted, 0, Math.max(0, Math.min(...blocks.map((block) => roomOf(block, widths, width)))))
  for (const block of blocks)
    for (const column of block.slice(1)) widen(widths, wanted, column, roomOf(block, widths, width))
  return blocks.map((block) => renderBlock(columns, cells, widths, block)).join('\n\n')
}

/** Returns how much wider a block may become; less than 0 for one that is too wide. */
function roomOf(block: readonly number[], widths: readonly number[], width: number): number {
  return width === Number.POSITIVE_INFINITY
    ? 0
    : width - lineLength(block.map((column) => widths[column] ?? 0))
}

/** Gives a column the room that its block has, up to what its texts take; without room, cuts it. */
function widen(widths: number[], wanted: readonly number[], column: number, room: number): void {
  widths[column] = Math.max(1, Math.min(wanted[column] ?? 0, (widths[column] ?? 0) + room))
}

function shrink<Row>(columns: readonly Column<Row>[], widths: number[], width: number): void {
  let excess = lineLength(widths) - width
  while (excess > 0) {
    const widest = widths
      .map((columnWidth, index) => ({ columnWidth, index }))
      .filter(({ columnWidth, index }) => columns[index]?.shrinks && columnWidth > MIN_WIDTH)
      .toSorted((a, b) => b.columnWidth - a.columnWidth)[0]
    if (widest === undefined) return
    widths[widest.index] = widest.columnWidth - 1
    excess -= 1
  }
}

/** Returns the column indexes of each block. Every block but the first starts with column 0. */
function splitIntoBlocks(widths: readonly number[], width: number): number[][] {
  const blocks: number[][] = []
  let block = [0]
  for (let index = 1; index < widths.length; index += 1) {
    const grown = [...block, index]
    if (block.length > 1 && lineLength(grown.map((column) => widths[column] ?? 0)) > width) {
      blocks.push(block)
      block = [0, index]
    } else {
      block = grown
    }
  }
  return [...blocks, block]
}

function renderBlock<Row>(
  columns: readonly Column<Row>[],
  cells: readonly string[][],
  widths: readonly number[],
  block: readonly number[],
): string {
  const lines = cells[0]?.length ?? 0
  return Array.from({ length: lines }, (_, line) =>
    block
      .map((index) => {
        const text = (index === 0 ? cutMiddle : cut)(cells[index]?.[line] ?? '', widths[index] ?? 0)
        return (columns[index]?.align === 'right' ? padStart : padEnd)(text, widths[index] ?? 0)
      })
      .join(GAP)
      .trimEnd(),
  ).join('\n')
}

/**
 * Replaces control characters, and those that reverse the order of the ones after them: names and texts come from others, and could move
 * the cursor, write to the terminal, or show the rest of a row backwards.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, '?')
}

/** Replaces these characters but for line feeds and tabs, in text of several lines. */
export function printableLines(text: string): string {
  return text.replaceAll(/(?![\n\t])[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, '?')
}

/** Cuts a text to `width` columns of the terminal, with an ellipsis when it is longer. */
export function cut(text: string, width: number): string {
  return textWidth(text) <= width ? text : `${fittingStart(text, width - 1)}…`
}

/** Cuts a text to `width` columns in its middle, because names often differ at their ends. */
function cutMiddle(text: string, width: number): string {
  if (textWidth(text) <= width) return text
  const ending = Math.floor((width - 1) / 2)
  return `${fittingStart(text, width - 1 - ending)}…${fittingEnd(text, ending)}`
}

function lineLength(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width, 0) + GAP.length * (widths.length - 1)
}
