/** The classes of personal data and credentials, in the order in which they are looked for. */
export const REDACTION_CLASSES = [
  'key',
  'email',
  'ip',
  'iban',
  'card',
  'passport',
  'birthdate',
  'id',
  'phone',
] as const
/** A class of personal data; its replacement is its name in brackets, as in `[email]`. */
export type RedactionClass = (typeof REDACTION_CLASSES)[number]

/** A part of a text: from `start` to before `end`, in UTF-16 code units. */
export interface Span {
  start: number
  end: number
}

/** Finds the spans of one class in the matching form of a text, in ascending order and without overlaps. */
export type Detector = (text: string) => readonly Span[]

/** Takes the place of what an earlier detector found. No pattern matches it, and it is neither space nor punctuation. */
const MASK = '\uFFFC'

/** Returns the spans of every match of a pattern, or of its group 1 where it has one. */
export function matchSpans(pattern: RegExp, text: string, accept?: (match: string) => boolean): Span[] {
  const spans: Span[] = []
  for (const match of text.matchAll(pattern)) {
    const found = match[1] ?? match[0]
    if (accept !== undefined && !accept(found)) continue
    // A group that is captured ends where the match ends, so that it needs no indices, which are slow.
    const end = match.index + match[0].length
    spans.push({ start: end - found.length, end })
  }
  return spans
}

/** Sorts spans and joins those that overlap. */
export function mergeSpans(spans: readonly Span[]): Span[] {
  const merged: Span[] = []
  for (const span of spans.toSorted((a, b) => a.start - b.start || b.end - a.end)) {
    const last = merged.at(-1)
    if (last !== undefined && span.start < last.end) last.end = Math.max(last.end, span.end)
    else merged.push({ ...span })
  }
  return merged
}

/** Returns a text with its spans masked, of the same length. */
export function maskSpans(text: string, spans: readonly Span[]): string {
  if (spans.length === 0) return text
  const parts: string[] = []
  let from = 0
  for (const { start, end } of spans) {
    parts.push(text.slice(from, start), MASK.repeat(end - start))
    from = end
  }
  parts.push(text.slice(from))
  return parts.join('')
}
