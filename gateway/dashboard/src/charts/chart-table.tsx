import { TableDetails } from '../components/table-details.tsx'
import type { Line } from './plot-data.ts'

interface ChartTableProps {
  title: string
  xTitle: string
  x: readonly number[]
  lines: readonly Line[]
  labelX: (value: number) => string
  formatY: (value: number) => string
}

/** The values of a chart as a table. */
export function ChartTable({ title, xTitle, x, lines, labelX, formatY }: ChartTableProps) {
  return (
    <TableDetails
      label={title}
      rows={[...x.keys()]}
      rowKey={(index) => index}
      columns={[
        { title: xTitle, cell: (index) => labelX(x[index] ?? 0) },
        ...lines.map(({ label, values, lower, upper }) => ({
          title: label,
          align: 'end' as const,
          cell: (index: number) => cell(values[index], lower?.[index], upper?.[index], formatY),
        })),
      ]}
    />
  )
}

type Value = number | null | undefined

function cell(value: Value, lower: Value, upper: Value, format: (value: number) => string): string {
  if (typeof value !== 'number') return '–'
  const interval =
    typeof lower === 'number' && typeof upper === 'number' ? ` (${format(lower)} to ${format(upper)})` : ''
  return `${format(value)}${interval}`
}
