/** Masks as sentences name them. */

/** Names a mask: `mask 14`; version 0 is `the dense weights`. */
export function maskName(version: number): string {
  return version === 0 ? 'the dense weights' : `mask ${version}`
}

/** As {@link maskName}, at the begin of a sentence. */
export function maskNameFirst(version: number): string {
  return version === 0 ? 'The dense weights' : `Mask ${version}`
}

/** The form of a verb after a mask or the dense weights, which are several: `serves`, `serve`. */
export function maskVerb(version: number, one: string, several: string): string {
  return version === 0 ? several : one
}

/** Names a mask in a table: `14`, `dense`. */
export function shortMaskName(version: number | null): string {
  return version === null ? '–' : version === 0 ? 'dense' : String(version)
}

/** Joins names: `speech`, `speech and code`, `speech, code and law`; of more than `max` the others are counted. */
export function joinNames(names: readonly string[], max = 4): string {
  const shown = names.length > max ? [...names.slice(0, max - 1), `${names.length - max + 1} more`] : names
  return shown.length < 2 ? (shown[0] ?? '') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`
}
