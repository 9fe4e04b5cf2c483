/** The colours of the theme, as canvases take them. */

/** Reads the colours of an element's theme, as canvases take them. */
export function colourReader(element: HTMLElement): (variable: string, alpha?: number) => string {
  const probe = document.createElement('span')
  probe.hidden = true
  const known = new Map<string, string>()
  return (variable, alpha = 1) => {
    const key = `${variable} ${alpha}`
    const found = known.get(key)
    if (found !== undefined) return found
    probe.style.color =
      alpha === 1 ? `var(${variable})` : `color-mix(in srgb, var(${variable}) ${alpha * 100}%, transparent)`
    element.append(probe)
    const colour = getComputedStyle(probe).color
    probe.remove()
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
