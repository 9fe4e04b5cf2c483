import type { ComponentChildren } from 'preact'

/** The heading of a column. */
export interface Heading {
  title: string
  /** `end` for numbers. */
  align?: 'start' | 'end'
  /** Explains the column on hover. */
  hint?: string
  /** Hides the title from the eye, where the cells explain themselves. */
  hidesTitle?: boolean
}

/** The headings of a table that is not sorted. */
export function Headings({ columns }: { columns: readonly Heading[] }) {
  return (
    <thead>
      <tr>
        {columns.map(({ title, align, hint, hidesTitle = false }) => (
          <th key={title} scope="col" class={align === 'end' ? 'align-end' : undefined} title={hint}>
            {hidesTitle ? <span class="visually-hidden">{title}</span> : title}
          </th>
        ))}
      </tr>
    </thead>
  )
}

/** A column of a {@link PlainTable}. */
export interface PlainColumn<Row> extends Heading {
  cell: (row: Row) => ComponentChildren
}

/** Columns and rows of a plain table. */
export interface PlainTableProps<Row> {
  /** Subject of the table, for screen readers. */
  label: string
  /** The first column names its row. */
  columns: readonly PlainColumn<Row>[]
  rows: readonly Row[]
  rowKey: (row: Row) => string | number
}

/** A small table of figures, neither sorted nor filtered. A wide one scrolls sideways. */
export function PlainTable<Row>({ label, columns, rows, rowKey }: PlainTableProps<Row>) {
  const [first, ...others] = columns
  return (
    <div class="wide" tabIndex={0} role="region" aria-label={label}>
      <table>
        <caption class="visually-hidden">{label}</caption>
        <Headings columns={columns} />
        <tbody>
          {rows.map((row) => (
            <tr key={rowKey(row)}>
              <th scope="row">{first?.cell(row)}</th>
              {others.map(({ title, align, cell }) => (
                <td key={title} class={align === 'end' ? 'align-end num' : undefined}>
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
