import type { ComponentChildren } from 'preact'
import { useId, useMemo, useState } from 'preact/hooks'
import { filterRows, nextOrder, sortRows, toCsv, type CellValue, type SortOrder } from '../data/table-rows.ts'
import { formatCount, plural } from '../format/numbers.ts'

/** One column of a table. */
export interface Column<Row> {
  key: string
  title: string
  /** Value of the cell for sorting, filtering and export. */
  value: (row: Row) => CellValue
  /** Content of the cell. Default: `value`. */
  cell?: (row: Row) => ComponentChildren
  /** `end` for numbers. */
  align?: 'start' | 'end'
  /**
   * On a phone a row has two lines: the `first` columns, then the `second` ones with their titles and the `bare` ones without;
   * `none` is left out.
   */
  phone?: 'first' | 'second' | 'bare' | 'none'
  /** Explains the column on hover. */
  hint?: string
}

interface TableProps<Row> {
  /** Name of the table, for screen readers. */
  caption: string
  columns: readonly Column<Row>[]
  rows: readonly Row[]
  rowKey: (row: Row) => string
  /** Shows a field that filters rows as you type. */
  filter?: boolean
  /** Text of that field at first. */
  initialFilter?: string | undefined
  /** Name of the file of the export, without `.csv`; without it there is no export. */
  csv?: string
  initialOrder?: SortOrder
  /** Shown instead of the table when there are no rows. */
  empty?: ComponentChildren
  /** Rows that are shown first; a button shows the others. Default: 100. */
  limit?: number
}

/** A table that sorts by its headings. On a phone it becomes a list of two lines a row. */
export function Table<Row>(props: TableProps<Row>) {
  const {
    caption,
    columns,
    rows,
    rowKey,
    filter = false,
    initialFilter = '',
    csv,
    initialOrder,
    empty,
    limit = 100,
  } = props
  const [order, setOrder] = useState(initialOrder)
  const [text, setText] = useState(initialFilter)
  const [showsAll, setShowsAll] = useState(false)
  const shown = useMemo(
    () => sortRows(filterRows(rows, columns, text), columns, order),
    [rows, columns, text, order],
  )
  const visible = showsAll ? shown : shown.slice(0, limit)
  if (rows.length === 0 && empty !== undefined) return <>{empty}</>
  return (
    <div class="table">
      {(filter || csv !== undefined) && (
        <div class="table-tools">
          {filter && <FilterField text={text} onInput={setText} caption={caption} />}
          <span class="soft" role="status">
            {text === ''
              ? plural(rows.length, 'row')
              : `${formatCount(shown.length)} of ${plural(rows.length, 'row')}`}
          </span>
          {csv !== undefined && (
            <button
              type="button"
              class="button button-small"
              onClick={() => download(`${csv}.csv`, toCsv(shown, columns))}
            >
              Export CSV
            </button>
          )}
        </div>
      )}
      <table>
        <caption class="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <HeadCell key={column.key} column={column} order={order} onSort={setOrder} />
            ))}
          </tr>
        </thead>
        <tbody>
          {visible.map((row) => (
            <tr key={rowKey(row)}>
              {columns.map((column) => (
                <td
                  key={column.key}
                  class={`align-${column.align ?? 'start'} phone-${column.phone ?? 'second'}`}
                  data-title={column.title}
                >
                  {column.cell ? column.cell(row) : column.value(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {shown.length === 0 && <p class="soft table-none">No row contains “{text}”.</p>}
      {visible.length < shown.length && (
        <button type="button" class="button button-small" onClick={() => setShowsAll(true)}>
          Show all {formatCount(shown.length)}
        </button>
      )}
    </div>
  )
}

function HeadCell<Row>({
  column,
  order,
  onSort,
}: {
  column: Column<Row>
  order: SortOrder | undefined
  onSort: (order: SortOrder) => void
}) {
  const { key, title, align = 'start', hint } = column
  const direction = order?.key !== key ? undefined : order.descending ? 'descending' : 'ascending'
  return (
    <th scope="col" class={`align-${align}`} aria-sort={direction ?? 'none'} title={hint}>
      {title === '' ? (
        <span class="visually-hidden">Actions</span>
      ) : (
        <button type="button" onClick={() => onSort(nextOrder(order, key))}>
          {title}
          <span class="sort-mark" aria-hidden="true">
            {direction === 'descending' ? '↓' : direction === 'ascending' ? '↑' : ''}
          </span>
        </button>
      )}
    </th>
  )
}

function FilterField({
  text,
  onInput,
  caption,
}: {
  text: string
  onInput: (text: string) => void
  caption: string
}) {
  const id = useId()
  return (
    <>
      <label for={id} class="visually-hidden">
        Filter: {caption}
      </label>
      <input
        id={id}
        type="search"
        placeholder="Filter"
        value={text}
        onInput={(event) => onInput(event.currentTarget.value)}
        spellcheck={false}
      />
    </>
  )
}

/** Saves a text as a file. */
function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/csv' }))
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}
