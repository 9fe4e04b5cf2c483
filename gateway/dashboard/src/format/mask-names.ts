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
