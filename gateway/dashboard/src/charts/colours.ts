/** Colours of charts. They are CSS variables, so that they follow the theme; canvases need them resolved. */

/** Number of categorical colours; later categories repeat them dashed. */
const CATEGORIES = 8

/** The colour of a line: the index of a category, or a role. */
export type LineColour = number | 'ink' | 'muted' | 'accent' | 'harm'

/** The CSS variable of a colour. */
export function colourVariable(colour: LineColour): string {
  return typeof colour === 'number' ? `--c${(colour % CATEGORIES) + 1}` : `--${colour}`
}

/** Dashes of a line, pixels: categories beyond the eighth differ by them. */
export function dashesOf(colour: LineColour): number[] | undefined {
  if (typeof colour !== 'number') return undefined
  const patterns = [undefined, [6, 4], [2, 3], [10, 3, 2, 3]]
  return patterns[Math.floor(colour / CATEGORIES) % patterns.length]
}
