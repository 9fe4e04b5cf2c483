import { visibleText } from '@copal/shared/visible-text.ts'
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
 * Renders a table with no line longer than `width`. Where cutting the columns that may shrink makes the rows fit, they are cut with an
 * ellipsis, the first in its middle. Otherwise the columns follow in several tables, each with the first column, and only those are
 * cut that do not fit beside it. On a line of finite width columns without any value are left out.
 *
 * @returns lines without trailing blanks, joined by newlines
 */
export function renderTable<Row>(
  allColumns: readonly Column<Row>[],
  rows: readonly Row[],
  width: number,
): string {
  const isEmpty = (column: Column<Row>) => rows.length > 0 && rows.every((row) => column.value(row) === '')
  const columns =
    width === Number.POSITIVE_INFINITY ? allColumns : allColumns.filter((column) => !isEmpty(column))
  const cells = columns.map((column) => [column.title, ...rows.map((row) => printable(column.value(row)))])
  const wanted = cells.map((texts) => Math.max(...texts.map(textWidth)))
  const widths = shrunkToFit(columns, wanted, width) ?? besideFirst(columns, wanted, width)
  const blocks = splitIntoBlocks(widths, width)
  const room = Math.max(0, Math.min(...blocks.map((block) => roomOf(block, widths, width))))
  widths[0] = Math.min(wanted[0] ?? 0, (widths[0] ?? 0) + room)
  return blocks.map((block) => renderBlock(columns, cells, widths, block)).join('\n\n')
}

/** Returns how much wider a block may become; less than 0 for one that is too wide. */
function roomOf(block: readonly number[], widths: readonly number[], width: number): number {
  return width === Number.POSITIVE_INFINITY
    ? 0
    : width - lineLength(block.map((column) => widths[column] ?? 0))
}

/** Cuts the columns that may shrink, the widest first, until a row fits; undefined if they would have to be narrower than `MIN_WIDTH`. */
function shrunkToFit<Row>(
  columns: readonly Column<Row>[],
  wanted: readonly number[],
  width: number,
): number[] | undefined {
  const widths = [...wanted]
  let excess = lineLength(widths) - width
  while (excess > 0) {
    const widest = widths
      .map((columnWidth, index) => ({ columnWidth, index }))
      .filter(({ columnWidth, index }) => columns[index]?.shrinks && columnWidth > MIN_WIDTH)
      .toSorted((a, b) => b.columnWidth - a.columnWidth)[0]
    if (widest === undefined) return undefined
    widths[widest.index] = widest.columnWidth - 1
    excess -= 1
  }
  return widths
}

/** Cuts the first column, if it may shrink, to what the widest other one leaves of a line; then those that do not fit beside it. */
function besideFirst<Row>(
  columns: readonly Column<Row>[],
  wanted: readonly number[],
  width: number,
): number[] {
  const half = Math.floor(width / 2)
  const widest = Math.max(
    0,
    ...wanted.slice(1).map((each, index) => (columns[index + 1]?.shrinks ? Math.min(each, half) : each)),
  )
  const all = wanted[0] ?? 0
  const first = columns[0]?.shrinks ? Math.min(all, Math.max(MIN_WIDTH, width - GAP.length - widest)) : all
  const rest = Math.max(1, width - GAP.length - first)
  return [first, ...wanted.slice(1).map((each) => Math.min(each, rest))]
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

/** Replaces characters that are not seen but change what is, in text of one line. */
export function printable(text: string): string {
  return visibleText(text, '?', { lines: false })
}

/** Replaces these characters but for line feeds and tabs, in text of several lines. */
export function printableLines(text: string): string {
  return visibleText(text, '?', { lines: true })
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
