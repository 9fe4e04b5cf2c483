import { sparkPath } from './spark-path.ts'

interface SparklineProps {
  values: readonly (number | null)[]
  /** What it shows and how it goes, for screen readers. */
  label: string
  /** Viewbox units. */
  width?: number
  height?: number
  /** The line begins at 0. Default: true. */
  includesZero?: boolean
}

/** A line as small as a word. */
export function Sparkline({ values, label, width = 96, height = 20, includesZero = true }: SparklineProps) {
  const path = sparkPath(values, width, height, includesZero)
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${width} ${height}`}
      width={width}
      height={height}
      role="img"
      aria-label={label}
    >
      <path d={path} />
    </svg>
  )
}
