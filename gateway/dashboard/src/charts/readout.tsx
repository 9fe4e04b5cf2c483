import { colourVariable, dashesOf } from './colours.ts'
import type { Line } from './plot-data.ts'

interface ReadoutProps {
  lines: readonly Line[]
  x: readonly number[]
  cursor: number | undefined
  labelX: (value: number) => string
  formatY: (value: number) => string
}

/** The names of the lines; over them, where they take no place of the chart, their values at the cursor. */
export function Readout({ lines, x, cursor, labelX, formatY }: ReadoutProps) {
  const at = cursor === undefined ? undefined : x[cursor]
  const named = lines.filter(({ isBackground }) => !isBackground)
  return (
    <span class="readout-place">
      <span class="readout">
        {named.map((line) => (
          <LineName key={line.label} line={line} />
        ))}
      </span>
      <span class="readout readout-values" aria-live="polite">
        {cursor !== undefined && at !== undefined && (
          <>
            {named.map((line) => (
              <LineName key={line.label} line={line} value={valueAt(line, cursor, formatY)} />
            ))}
            <span class="soft readout-x">{labelX(at)}</span>
          </>
        )}
      </span>
    </span>
  )
}

/** A value, and its interval if it has one. */
interface ValueText {
  value: string
  interval: string
}

function valueAt(
  { values, lower, upper }: Line,
  index: number,
  format: (value: number) => string,
): ValueText {
  const [value, low, high] = [values[index], lower?.[index], upper?.[index]]
  return {
    value: typeof value === 'number' ? format(value) : 'no data',
    interval:
      typeof low === 'number' && typeof high === 'number' ? `(${format(low)} to ${format(high)})` : '',
  }
}

function LineName({ line: { label, colour }, value }: { line: Line; value?: ValueText }) {
  return (
    <span class="readout-line">
      <svg class="swatch" viewBox="0 0 16 4" aria-hidden="true">
        <line
          x1="0"
          y1="2"
          x2="16"
          y2="2"
          stroke={`var(${colourVariable(colour)})`}
          stroke-width="3"
          stroke-dasharray={dashesOf(colour)
            ?.map((dash) => dash / 2)
            .join(' ')}
        />
      </svg>
      {label}
      {value && (
        <span class="num">
          {' '}
          {value.value} <span class="soft">{value.interval}</span>
        </span>
      )}
    </span>
  )
}
