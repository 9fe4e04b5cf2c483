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

/** A text with a full stop, unless it ends a sentence already. */
export function endSentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`
}
