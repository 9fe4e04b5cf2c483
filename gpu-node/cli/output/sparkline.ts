const BARS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']

/** Renders values as bars of one line, the lowest as the lowest bar and the highest as the highest; nulls are blanks. */
export function sparkline(values: readonly (number | null)[]): string {
  const known = values.filter((value) => value !== null)
  const least = Math.min(...known)
  const span = Math.max(...known) - least
  return values
    .map((value) => {
      if (value === null) return ' '
      const bar = span > 0 ? Math.round(((value - least) / span) * (BARS.length - 1)) : 0
      return BARS[bar] ?? ' '
    })
    .join('')
}
