interface IntervalBarProps {
  value: number | null
  lower: number | null
  upper: number | null
  /** Limit of the value. */
  bound: number | null
  /** Ends of the scale, the same for all bars of a column. */
  range: readonly [low: number, high: number]
  /** The content in words, for screen readers. */
  label: string
}

const WIDTH = 160
const HEIGHT = 16

/** A value with its interval and the bound that it is compared with, on one line. */
export function IntervalBar({ value, lower, upper, bound, range: [low, high], label }: IntervalBarProps) {
  const place = (at: number) =>
    Math.max(4, Math.min(WIDTH - 4, high > low ? ((at - low) / (high - low)) * WIDTH : WIDTH / 2))
  return (
    <svg
      class="interval-bar"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      width={WIDTH}
      height={HEIGHT}
      role="img"
      aria-label={label}
    >
      {low < 0 && high > 0 && (
        <line class="interval-zero" x1={place(0)} x2={place(0)} y1="2" y2={HEIGHT - 2} />
      )}
      {lower !== null && upper !== null && (
        <line class="interval-range" x1={place(lower)} x2={place(upper)} y1={HEIGHT / 2} y2={HEIGHT / 2} />
      )}
      {bound !== null && (
        <line class="interval-bound" x1={place(bound)} x2={place(bound)} y1="0" y2={HEIGHT} />
      )}
      {value !== null && <circle class="interval-value" cx={place(value)} cy={HEIGHT / 2} r="3.5" />}
    </svg>
  )
}
