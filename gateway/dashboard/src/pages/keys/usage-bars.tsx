import { useState } from 'preact/hooks'
import { ChartTable } from '../../charts/chart-table.tsx'
import { formatCount } from '../../format/numbers.ts'

const WIDTH = 600
const HEIGHT = 96
const GAP = 0.4

/** Tokens of each day as bars; the day under the pointer is told above. */
export function UsageBars({ days, tokens }: { days: readonly string[]; tokens: readonly number[] }) {
  const [current, setCurrent] = useState<number>()
  const most = Math.max(1, ...tokens)
  const step = WIDTH / Math.max(1, tokens.length)
  const sum = tokens.reduce((total, count) => total + count, 0)
  const summary = `${formatCount(sum)} tokens in ${days.length} days; the most were ${formatCount(Math.max(0, ...tokens))} on ${days[tokens.indexOf(most)] ?? 'one day'}.`
  const shown = current === undefined ? summary : `${days[current]}: ${formatCount(tokens[current])} tokens`
  return (
    <figure class="chart usage-bars">
      <figcaption>
        <span class="chart-title">Tokens by day, UTC</span>
        <span class="readout" aria-live="polite">
          {shown}
        </span>
      </figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Tokens by day. ${summary}`}
        onMouseLeave={() => setCurrent(undefined)}
      >
        {tokens.map((count, day) => {
          const height = Math.max(count > 0 ? 1 : 0, (count / most) * (HEIGHT - 1))
          return (
            <g key={days[day]} onMouseEnter={() => setCurrent(day)}>
              <rect class="usage-hit" x={day * step} y="0" width={step} height={HEIGHT} />
              <rect
                class={day === current ? 'usage-bar usage-bar-current' : 'usage-bar'}
                x={day * step + (step * GAP) / 2}
                y={HEIGHT - height}
                width={step * (1 - GAP)}
                height={height}
              />
            </g>
          )
        })}
      </svg>
      <p class="usage-ends soft" aria-hidden="true">
        <span>{days[0]}</span>
        <span>{days.at(-1)}</span>
      </p>
      <ChartTable
        title="Tokens by day"
        xTitle="Day"
        x={days.map((_, day) => day)}
        lines={[{ label: 'Tokens', values: tokens, colour: 'ink' }]}
        labelX={(day) => days[day] ?? ''}
        formatY={formatCount}
      />
    </figure>
  )
}
