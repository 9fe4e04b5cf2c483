import { useState } from 'preact/hooks'
import { PlainTable, type PlainTableProps } from './plain-table.tsx'

/** The numbers of a drawing as a table, for readers who do not see it. It is made when it is opened. */
export function TableDetails<Row>(props: PlainTableProps<Row>) {
  const [isOpen, setOpen] = useState(false)
  return (
    <details class="chart-table" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Show as a table</summary>
      {isOpen && <PlainTable {...props} />}
    </details>
  )
}
