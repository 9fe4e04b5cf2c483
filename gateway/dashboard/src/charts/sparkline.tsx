import { sparkPath } from './spark-path.ts'

interface SparklineProps {
  values: readonly (number | null)[]
  /** Name and course of the line, for screen readers. */
  label: string
  /** Pixels. */
  width?: number
}

/** Height of a line, pixels. */
const HEIGHT = 20

/** A line as small as a word. It begins at 0. */
export function Sparkline({ values, label, width = 96 }: SparklineProps) {
  const path = sparkPath(values, width, HEIGHT)
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${width} ${HEIGHT}`}
      width={width}
      height={HEIGHT}
      role="img"
      aria-label={label}
    >
      <path d={path} />
    </svg>
  )
}
