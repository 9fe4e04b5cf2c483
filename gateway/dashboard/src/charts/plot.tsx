import { ticks } from 'd3-array'
import { useMemo } from 'preact/hooks'
import { colourVariable, dashesOf, type LineColour } from './colours.ts'
import { isEmpty, yRange, type PlotContent } from './plot-data.ts'
import { bandPath, isAlone, linePath, type Scales } from './plot-paths.ts'
import { timeLabel, timeTicks } from './time-axis.ts'

interface PlotProps {
  content: PlotContent
  /** Pixels, with the axes. */
  width: number
  /** Pixels, with the axes. */
  height: number
  isTime: boolean
  /** Name of the x axis, where it is no time. */
  xTitle: string
  includesZero: boolean
  formatX: (value: number) => string
  formatTick: (value: number) => string
  /** The index whose values are marked. */
  cursor: number | undefined
}

/** What a plot has around its lines, pixels (`charts.css`). */
export const EDGES = { left: 64, right: 20, top: 8, bottom: 28 }
/** Height of the name of the x axis, pixels. */
const TITLE_PIXELS = 18
/** About the distances of the labels of the axes, pixels. */
const TICK_PIXELS = { x: 90, y: 45 }
/** Distance from the top below which the name of a bound stands under its line, pixels. */
const BOUND_PIXELS = 20

/** Draws lines with bands, bounds and marks. */
export function Plot({ cursor, ...shape }: PlotProps) {
  const { content, width, height, isTime, includesZero } = shape
  const frame = useMemo(() => frameOf(shape), [content, width, height, includesZero])
  // The same element while the cursor moves. `formatX` and `formatTick` are pure and stay while a plot is shown.
  const picture = useMemo(() => <Picture {...shape} frame={frame} />, [frame, isTime])
  const { scales, right, bottom } = frame
  const x = cursor === undefined || content.x[cursor] === undefined ? undefined : scales.x(cursor)
  return (
    <svg width={width} height={height}>
      {picture}
      {cursor !== undefined && x !== undefined && x <= right && (
        <>
          <path class="plot-rule" d={`M${x} ${EDGES.top}V${bottom}`} stroke="var(--muted)" />
          {content.lines.map(({ label, values, colour }) => {
            const value = values[cursor]
            return (
              typeof value === 'number' && (
                <circle key={label} cx={x} cy={scales.y(value)} r="3" fill={paint(colour)} />
              )
            )
          })}
        </>
      )}
    </svg>
  )
}

/** The scales of a plot, and where its lines end. */
interface Frame {
  scales: Scales
  /** Places of values of x, pixels. */
  placeX: (value: number) => number
  range: readonly [number, number]
  right: number
  bottom: number
}

function frameOf({ content, width, height, isTime, includesZero }: Omit<PlotProps, 'cursor'>): Frame {
  const right = Math.max(EDGES.left + 1, width - EDGES.right)
  const bottom = height - EDGES.bottom - (isTime ? 0 : TITLE_PIXELS)
  const range = yRange(content, includesZero)
  const [low, high] = range
  const from = content.x[0] ?? 0
  const placeX = (value: number) =>
    EDGES.left + ((value - from) / (content.xEnd - from || 1)) * (right - EDGES.left)
  return {
    placeX,
    scales: {
      x: (index) => placeX(content.x[index] ?? from),
      y: (value) => bottom - ((value - low) / (high - low)) * (bottom - EDGES.top),
    },
    range,
    right,
    bottom,
  }
}

/** All but the cursor. */
function Picture(props: Omit<PlotProps, 'cursor'> & { frame: Frame }) {
  const { content, height, isTime, xTitle, formatX, formatTick, frame } = props
  const { scales, placeX, range, right, bottom } = frame
  const from = content.x[0] ?? 0
  const ticksX = (isTime ? timeTicks : ticks)(from, content.xEnd, (right - EDGES.left) / TICK_PIXELS.x)
  const ticksY = ticks(...range, (bottom - EDGES.top) / TICK_PIXELS.y)
  return (
    <>
      <g class="plot-rule" stroke="var(--rule)">
        {ticksY.map((tick) => (
          <path key={tick} d={`M${EDGES.left} ${scales.y(tick)}H${right}`} />
        ))}
      </g>
      <g text-anchor="end">
        {!isEmpty(content) &&
          ticksY.map((tick) => (
            <text key={tick} x={EDGES.left - 5} y={scales.y(tick) + 4}>
              {formatTick(tick)}
            </text>
          ))}
      </g>
      <g text-anchor="middle">
        {ticksX.map((tick) => (
          <text key={tick} x={placeX(tick)} y={bottom + 18}>
            {isTime ? timeLabel(tick) : formatX(tick)}
          </text>
        ))}
        {!isTime && (
          <text x={(EDGES.left + right) / 2} y={height - 6}>
            {xTitle}
          </text>
        )}
      </g>
      <Lines content={content} scales={scales} />
      {content.bounds.map(({ value, label }) => {
        const y = scales.y(value)
        return (
          <g key={label}>
            <path
              class="plot-rule"
              d={`M${EDGES.left} ${y}H${right}`}
              stroke="var(--harm)"
              stroke-dasharray="6 4"
            />
            <text
              class="plot-bound"
              x={right - 4}
              y={y + (y - EDGES.top > BOUND_PIXELS ? -4 : 13)}
              text-anchor="end"
            >
              {label}
            </text>
          </g>
        )
      })}
      <g class="plot-rule" stroke="var(--muted)" stroke-dasharray="2 3">
        {content.markAt
          .map(placeX)
          .filter((x) => x >= EDGES.left && x <= right)
          .map((x) => (
            <path key={x} d={`M${x} ${EDGES.top}V${bottom}`} />
          ))}
      </g>
    </>
  )
}

/** The lines with their bands, the first one over the others. */
function Lines({ content, scales }: { content: PlotContent; scales: Scales }) {
  return (
    <g fill="none" stroke-linejoin="round">
      {content.lines.toReversed().map(({ label, values, lower, upper, colour, isBackground }) => (
        <g key={label} stroke={paint(colour)} opacity={isBackground ? 0.5 : 1}>
          {lower && upper && (
            <g opacity="0.16">
              <path d={bandPath(lower, upper, scales)} fill={paint(colour)} stroke="none" />
              <path d={bandPath(lower, upper, scales, isAlone)} stroke-width="5" />
            </g>
          )}
          <path
            d={linePath(values, scales)}
            stroke-width={isBackground ? 1 : 1.75}
            stroke-dasharray={dashesOf(colour)?.join(' ')}
          />
          <path d={linePath(values, scales, isAlone)} stroke-width="5" stroke-linecap="round" />
        </g>
      ))}
    </g>
  )
}

function paint(colour: LineColour): string {
  return `var(${colourVariable(colour)})`
}
