import { bisectCenter } from 'd3-array'
import { useId, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { SeriesMark } from '@copal/shared/wire/admin-series.ts'
import { formatNumber } from '../format/numbers.ts'
import { toMs } from '../format/times.ts'
import { ChartTable } from './chart-table.tsx'
import { MarkCard } from './mark-card.tsx'
import { MarkRow } from './mark-row.tsx'
import { groupAt, groupMarks, markWithUpdate, minMarkGap, type MarkGroup } from './marks.ts'
import { isEmpty, type Bound, type Line, type PlotContent } from './plot-data.ts'
import { EDGES, Plot } from './plot.tsx'
import { Readout } from './readout.tsx'
import { periodLabel } from './time-axis.ts'

interface SeriesChartProps {
  /** The title, also the name for screen readers. */
  title: string
  /** The content in words, for screen readers. */
  summary: string
  /** Starts of the periods, Unix seconds; or numbers with `formatX`. Ascending. */
  x: readonly number[]
  /** End of the axis: the end of the last period. */
  xEnd?: number
  lines: readonly Line[]
  bounds?: readonly Bound[]
  /** Decisions that the time axis marks. */
  marks?: readonly SeriesMark[]
  formatY?: (value: number) => string
  /** Labels of the y axis. Default: as `formatY`. */
  formatTick?: (value: number) => string
  /** Given where x is no time. */
  formatX?: (value: number) => string
  xTitle?: string
  /** The y axis begins at 0. Default: true. */
  includesZero?: boolean
  /** Pixels. */
  height?: number
  /** The cursor of charts with the same x, and how to move it. Default: one of its own. */
  sharedCursor?: [number | undefined, (index: number | undefined) => void]
  /** Shown in the plot while no line has a value. */
  empty?: string
  /** Shows the marks below the axis, not only as lines through the plot. Default: true. */
  hasMarkRow?: boolean
  /** Called with a mark that is clicked. */
  onMark?: (mark: SeriesMark) => void
}

/** The width of a chart until it is measured. */
const DESKTOP_PIXELS = 1100
/** Distance from a mark at which the pointer is at it. */
const NEAR_PIXELS = 6
const NO_BOUNDS: readonly Bound[] = []
const NO_MARKS: readonly SeriesMark[] = []

/**
 * Lines over time with bands and marks. The arrow keys move the cursor, whose values stand above the plot; a table has all
 * values.
 */
export function SeriesChart(props: SeriesChartProps) {
  const { title, summary, x, lines, bounds = NO_BOUNDS, marks = NO_MARKS, formatY = formatNumber } = props
  const { formatX, includesZero = true, height = 220, xTitle = 'Time' } = props
  const xEnd = props.xEnd ?? x.at(-1) ?? 0
  const ownCursor = useState<number>()
  const [cursor, setCursor] = props.sharedCursor ?? ownCursor
  const host = useRef<HTMLDivElement>(null)
  const summaryId = useId()
  const labelX = formatX ?? periodLabel
  const content = useMemo<PlotContent>(
    () => ({ x, xEnd, lines, bounds, markAt: marks.map(({ at }) => toMs(at) / 1000) }),
    [x, xEnd, lines, bounds, marks],
  )
  const [width, setWidth] = useState(DESKTOP_PIXELS)
  const groups = useMemo(() => groupMarks(marks, x[0] ?? 0, xEnd, minMarkGap(width)), [marks, x, xEnd, width])
  const [near, setNear] = useState<MarkGroup>()
  // The same element while the cursor moves, so that a table with thousands of cells is not drawn again.
  const table = useMemo(
    () => <ChartTable title={title} xTitle={xTitle} x={x} lines={lines} labelX={labelX} formatY={formatY} />,
    [title, xTitle, x, lines, labelX, formatY],
  )
  useLayoutEffect(() => {
    const element = host.current
    if (!element) return undefined
    const measure = () => setWidth(element.clientWidth)
    measure()
    const resizing = new ResizeObserver(measure)
    resizing.observe(element)
    return () => resizing.disconnect()
  }, [])

  const leave = () => {
    setNear(undefined)
    setCursor(undefined)
  }
  /** Shows the values and the decisions at which the pointer is. */
  const point = (event: MouseEvent) => {
    const box = host.current?.getBoundingClientRect()
    if (!box) return
    const plotWidth = box.width - EDGES.left - EDGES.right
    const position = (event.clientX - box.left - EDGES.left) / plotWidth
    if (!(position >= 0 && position <= 1)) return leave()
    setCursor(bisectCenter(x, (x[0] ?? 0) + position * (xEnd - (x[0] ?? 0))))
    setNear(groupAt(groups, position, NEAR_PIXELS / plotWidth))
  }
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <Readout lines={lines} x={x} cursor={cursor} labelX={labelX} formatY={formatY} />
      </figcaption>
      <p id={summaryId} class="visually-hidden">
        {summary} The left and right arrow keys read the values.
      </p>
      <div class="plot-place">
        <div
          ref={host}
          class={near && markWithUpdate(near) ? 'plot plot-link' : 'plot'}
          onMouseMove={point}
          onMouseLeave={leave}
          onClick={() => {
            const mark = near && markWithUpdate(near)
            if (mark) props.onMark?.(mark)
          }}
          style={{ height: `${height}px` }}
          role="img"
          aria-label={title}
          aria-describedby={summaryId}
          tabIndex={0}
          onKeyDown={(event) => {
            const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key]
            const target =
              event.key === 'Home'
                ? 0
                : event.key === 'End'
                  ? x.length - 1
                  : step && (cursor ?? x.length) + step
            if (target === undefined) return
            event.preventDefault()
            setCursor(Math.max(0, Math.min(x.length - 1, target)))
          }}
          onBlur={() => setCursor(undefined)}
        >
          <Plot
            content={content}
            width={width}
            height={height}
            isTime={formatX === undefined}
            xTitle={xTitle}
            includesZero={includesZero}
            formatX={labelX}
            formatTick={props.formatTick ?? formatY}
            cursor={cursor}
          />
        </div>
        {isEmpty(content) && (
          <p class="plot-empty soft">{props.empty ?? 'Nothing was scored in this time.'}</p>
        )}
        {near && (
          <div class="plot-marks">
            <MarkCard group={near} at="plot" />
          </div>
        )}
      </div>
      {(props.hasMarkRow ?? props.marks !== undefined) && (
        <MarkRow groups={groups} {...(props.onMark ? { onMark: props.onMark } : {})} />
      )}
      {table}
    </figure>
  )
}
