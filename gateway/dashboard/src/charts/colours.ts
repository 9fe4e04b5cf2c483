/** Colours of charts. They are CSS variables, so that they follow the theme; canvases need them resolved. */

/** Number of categorical colours; what comes after them repeats them dashed. */
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

/** Reads the colours of an element's theme, as canvases take them. */
export function colourReader(element: HTMLElement): (variable: string, alpha?: number) => string {
  const probe = document.createElement('span')
  probe.hidden = true
  element.append(probe)
  const known = new Map<string, string>()
  return (variable, alpha = 1) => {
    const key = `${variable} ${alpha}`
    const found = known.get(key)
    if (found !== undefined) return found
    probe.style.color =
      alpha === 1 ? `var(${variable})` : `color-mix(in srgb, var(${variable}) ${alpha * 100}%, transparent)`
    const colour = getComputedStyle(probe).color
    known.set(key, colour)
    return colour
  }
}

/** Calls back when the theme changes; returns how to stop. */
export function onThemeChange(callback: () => void): () => void {
  const system = matchMedia('(prefers-color-scheme: dark)')
  const observer = new MutationObserver(callback)
  observer.observe(document.documentElement, { attributeFilter: ['data-theme'] })
  system.addEventListener('change', callback)
  return () => {
    observer.disconnect()
    system.removeEventListener('change', callback)
  }
}
