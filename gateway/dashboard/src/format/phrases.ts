/** Sentences as data: words, times, losses and links, which components render with details on hover. */
import { formatLossDifference } from './numbers.ts'
import { formatSince, formatTime, type Instant } from './times.ts'

/** A part of a sentence. */
export type Phrase =
  | string
  /** A problem. */
  | { harm: string }
  /** A difference of losses, nats a token, with the bounds of its interval. */
  | { nats: number; lower?: number; upper?: number }
  /** A time. */
  | { at: Instant }
  /** The beginning of something that lasts. */
  | { since: Instant }
  /** A link to a page of the dashboard. */
  | { to: string; text: string }

/** The text of a sentence, as it is read aloud. */
export function phrasesText(phrases: readonly Phrase[], nowMs: number): string {
  return phrases
    .map((phrase) => {
      if (typeof phrase === 'string') return phrase
      if ('harm' in phrase) return phrase.harm
      if ('nats' in phrase) return formatLossDifference(phrase.nats)
      if ('at' in phrase) return formatTime(phrase.at, nowMs)
      if ('since' in phrase) return formatSince(phrase.since, nowMs)
      return phrase.text
    })
    .join('')
}

/** Joins the names of things: `a`, `a and b`, `a, b and 3 others`; of more than `max` the others are counted. */
export function listNames(names: readonly string[], max = 4): string {
  const shown = names.length > max ? names.slice(0, max - 1) : names
  const others = names.length - shown.length
  const all = others > 0 ? [...shown, `${others} others`] : shown
  return all.length < 2 ? all.join('') : `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`
}

/** A text with a capital at its beginning. */
export function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

/** A text with a full stop, unless it ends a sentence already. */
export function endSentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`
}
