/** Sorting, filtering and exporting the rows of a table. */

/** Value of a cell for sorting, filtering and export. */
export type CellValue = string | number | boolean | null | undefined

/** The part of a column that rows are sorted, filtered and exported by. */
export interface ValueColumn<Row> {
  key: string
  title: string
  value: (row: Row) => CellValue
}

/** The order of rows. */
export interface SortOrder {
  key: string
  descending: boolean
}

/** Rows whose cells contain every word, whatever its case. */
export function filterRows<Row>(
  rows: readonly Row[],
  columns: readonly ValueColumn<Row>[],
  text: string,
): readonly Row[] {
  const words = text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '')
  if (words.length === 0) return rows
  return rows.filter((row) => {
    const content = columns
      .map(({ value }) => String(value(row) ?? ''))
      .join('\n')
      .toLowerCase()
    return words.every((word) => content.includes(word))
  })
}

/** Rows in an order; equal ones stay as they are, and those without a value come last. */
export function sortRows<Row>(
  rows: readonly Row[],
  columns: readonly ValueColumn<Row>[],
  order: SortOrder | undefined,
): readonly Row[] {
  const column = columns.find(({ key }) => key === order?.key)
  if (!column || !order) return rows
  return rows.toSorted((a, b) => compare(column.value(a), column.value(b), order.descending))
}

function compare(a: CellValue, b: CellValue, descending: boolean): number {
  const isMissing = [a, b].map((value) => value === null || value === undefined || value === '')
  if (isMissing[0] || isMissing[1]) return Number(isMissing[0]) - Number(isMissing[1])
  const order =
    typeof a === 'string' || typeof b === 'string'
      ? String(a).localeCompare(String(b), 'en', { numeric: true })
      : Number(a) - Number(b)
  return descending ? -order : order
}

/** The order after a click on a heading: ascending, descending, ascending again. */
export function nextOrder(order: SortOrder | undefined, key: string): SortOrder {
  return { key, descending: order?.key === key && !order.descending }
}

/**
 * Rows as CSV (RFC 4180), with a heading. A cell that a spreadsheet would run as a formula starts with an apostrophe.
 */
export function toCsv<Row>(rows: readonly Row[], columns: readonly ValueColumn<Row>[]): string {
  const lines = [
    columns.map(({ title }) => csvCell(title)),
    ...rows.map((row) => columns.map(({ value }) => csvCell(value(row)))),
  ]
  return lines.map((cells) => `${cells.join(',')}\r\n`).join('')
}

function csvCell(value: CellValue): string {
  if (value === null || value === undefined) return ''
  if (typeof value !== 'string') return String(value)
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}
