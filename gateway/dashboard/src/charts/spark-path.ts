/** The path of a small line, in SVG; a missing value is a gap, and a value between gaps a dot. */
export function sparkPath(
  values: readonly (number | null)[],
  width: number,
  height: number,
  includesZero: boolean,
): string {
  const known = values.filter((value) => value !== null)
  const low = known.reduce(
    (least, value) => Math.min(least, value),
    includesZero ? 0 : Number.POSITIVE_INFINITY,
  )
  const high = known.reduce(
    (most, value) => Math.max(most, value),
    includesZero ? 0 : Number.NEGATIVE_INFINITY,
  )
  const inner = height - 2
  const parts: string[] = []
  for (const [index, value] of values.entries()) {
    if (value === null) continue
    const x = round(values.length > 1 ? 1 + (index * (width - 2)) / (values.length - 1) : width / 2)
    const y = round(1 + inner - (high > low ? ((value - low) / (high - low)) * inner : inner / 2))
    const before = values[index - 1]
    const after = values[index + 1]
    if (typeof before === 'number') parts.push(`L${x} ${y}`)
    else parts.push(typeof after === 'number' ? `M${x} ${y}` : `M${x} ${y}h.01`)
  }
  return parts.join('')
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
