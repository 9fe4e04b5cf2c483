import { useState } from 'preact/hooks'
import type { Line } from './plot-data.ts'

interface ChartTableProps {
  title: string
  xTitle: string
  x: readonly number[]
  lines: readonly Line[]
  labelX: (value: number) => string
  formatY: (value: number) => string
}

/** The values of a chart as a table, for those who do not see it or want the numbers. */
export function ChartTable({ title, xTitle, x, lines, labelX, formatY }: ChartTableProps) {
  const [isOpen, setOpen] = useState(false)
  return (
    <details class="chart-table" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Show as a table</summary>
      {isOpen && (
        <div class="wide" tabIndex={0} role="region" aria-label={`${title}, table`}>
          <table>
            <caption class="visually-hidden">{title}</caption>
            <thead>
              <tr>
                <th scope="col">{xTitle}</th>
                {lines.map(({ label }) => (
                  <th key={label} scope="col" class="align-end">
                    {label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {x.map((at, index) => (
                <tr key={at}>
                  <th scope="row">{labelX(at)}</th>
                  {lines.map(({ label, values, lower, upper }) => (
                    <td key={label} class="align-end num">
                      {cell(values[index], lower?.[index], upper?.[index], formatY)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  )
}

type Value = number | null | undefined

function cell(value: Value, lower: Value, upper: Value, format: (value: number) => string): string {
  if (typeof value !== 'number') return '–'
  const interval =
    typeof lower === 'number' && typeof upper === 'number' ? ` (${format(lower)} to ${format(upper)})` : ''
  return `${format(value)}${interval}`
}
