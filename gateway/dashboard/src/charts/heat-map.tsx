import { useMemo, useRef, useState } from 'preact/hooks'
import { heatClass, heatLegend, heatRange, type HeatLegend, type HeatScale } from './heat-levels.ts'

interface HeatMapProps {
  title: string
  /** The content in words, for screen readers. */
  summary: string
  rows: readonly string[]
  columns: readonly string[]
  /** `[row][column]`: value of the colour; null: not known. */
  values: readonly (readonly (number | null)[])[]
  scale: HeatScale
  format: (value: number) => string
  /** Text of a cell. Default: none, for maps of many cells; the cell under the cursor is described above. */
  text?: (row: number, column: number) => string
  /** Full text of a cell. */
  describe: (row: number, column: number) => string
  /** The title of the rows, above them. */
  corner: string
  /** A column that is marked. */
  currentColumn?: number
}

/** A table whose cells have colours. The arrow keys move between cells; the one with the focus is described above. */
export function HeatMap(props: HeatMapProps) {
  const { title, summary, rows, columns, values, scale, format, text, describe, corner, currentColumn } =
    props
  const range = useMemo(() => heatRange(values, scale), [values, scale])
  const [current, setCurrent] = useState<readonly [row: number, column: number]>()
  const table = useRef<HTMLTableElement>(null)
  const [focusRow, focusColumn] = current ?? [0, 0]
  const move = (row: number, column: number) => {
    const next = [clamp(row, rows.length), clamp(column, columns.length)] as const
    setCurrent(next)
    table.current?.querySelector<HTMLElement>(`[data-cell="${next[0]},${next[1]}"]`)?.focus()
  }
  return (
    <figure class="chart heat-map">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="readout" aria-live="polite">
          {current ? describe(...current) : summary}
        </span>
      </figcaption>
      <div class="wide">
        <table
          ref={table}
          class={text ? 'heat-texts' : 'heat-cells'}
          onMouseLeave={() => setCurrent(undefined)}
        >
          <caption class="visually-hidden">
            {title}. {summary} The arrow keys move between cells.
          </caption>
          <thead>
            <tr>
              <th scope="col">{corner}</th>
              {columns.map((column, index) => (
                <th key={column} scope="col" class={index === currentColumn ? 'heat-current' : ''}>
                  {column}
                </th>
              ))}
            </tr>
          </thead>
          <tbody
            onKeyDown={(event) => {
              const step = (
                { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] } as const
              )[event.key as 'ArrowUp']
              if (!step) return
              event.preventDefault()
              move(focusRow + step[0], focusColumn + step[1])
            }}
          >
            {rows.map((row, rowIndex) => (
              <tr key={row}>
                <th scope="row">{row}</th>
                {columns.map((column, columnIndex) => (
                  <td
                    key={column}
                    class={heatClass(values[rowIndex]?.[columnIndex], range, scale)}
                    data-cell={`${rowIndex},${columnIndex}`}
                    tabIndex={rowIndex === focusRow && columnIndex === focusColumn ? 0 : -1}
                    onFocus={() => setCurrent([rowIndex, columnIndex])}
                    onMouseEnter={() => setCurrent([rowIndex, columnIndex])}
                  >
                    {text ? (
                      text(rowIndex, columnIndex)
                    ) : (
                      <span class="visually-hidden">{describe(rowIndex, columnIndex)}</span>
                    )}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Legend {...heatLegend(values, range, scale)} format={format} />
    </figure>
  )
}

/** The legend of the colours. */
function Legend({ levels, low, high, format }: HeatLegend & { format: (value: number) => string }) {
  return (
    <p class="heat-legend soft" aria-hidden="true">
      <span>{format(low)}</span>
      {levels.map((level) => (
        <span key={level} class={`heat-swatch ${level}`} />
      ))}
      <span>{format(high)}</span>
    </p>
  )
}

function clamp(index: number, length: number): number {
  return Math.max(0, Math.min(length - 1, index))
}
