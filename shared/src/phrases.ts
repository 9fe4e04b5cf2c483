/** Parts of English sentences, which people read in the dashboard, in the command line and in messages of the gateway. */

/** Joins names or parts of a sentence: `a`, `a and b`, `a, b and 3 others`; of more than `max` the others are counted. */
export function listNames(names: readonly string[], max = 4): string {
  const shown = names.length > max ? names.slice(0, max - 1) : names
  const others = names.length - shown.length
  const all = others > 0 ? [...shown, `${others} others`] : shown
  return all.length < 2 ? all.join('') : `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`
}

/** Returns a text with a capital at its beginning. */
export function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

/** Formats a count with its noun: `1 mask`, `1,200 masks`. */
export function counted(count: number, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`
}

/** Formats a time, in milliseconds or ISO 8601, to the minute: `2026-11-28 21:05 UTC`. */
export function formatTime(at: number | string): string {
  return `${new Date(at).toISOString().slice(0, 16).replace('T', ' ')} UTC`
}

/** Formats a fraction as per cent with at most one decimal: `50 %`, `4.2 %`. */
export function percentOf(fraction: number): string {
  return `${Number((fraction * 100).toFixed(1))} %`
}
