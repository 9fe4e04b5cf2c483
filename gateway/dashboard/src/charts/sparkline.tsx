import { isAlone, linePath } from './plot-paths.ts'
import { sparkScales } from './spark-scales.ts'

interface SparklineProps {
  values: readonly (number | null)[]
  /** Name and course of the line, for screen readers. */
  label: string
  /** Pixels. */
  width?: number
}

/** Height of a line, pixels. */
const HEIGHT = 20

/** A line as small as a word, which begins at 0. A missing value is a gap, and a value between gaps a dot. */
export function Sparkline({ values, label, width = 96 }: SparklineProps) {
  const scales = sparkScales(values, width, HEIGHT)
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${width} ${HEIGHT}`}
      width={width}
      height={HEIGHT}
      role="img"
      aria-label={label}
    >
      <path d={linePath(values, scales)} />
      <path class="sparkline-dots" d={linePath(values, scales, isAlone)} />
    </svg>
  )
}
