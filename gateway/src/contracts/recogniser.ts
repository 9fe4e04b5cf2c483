import type { RecognisedClass } from '@copal/shared/wire/recogniser.ts'

/** A part of a text that an external recogniser found, from `start` to before `end` in UTF-16 code units. */
export interface RecognisedSpan {
  start: number
  end: number
  label: RecognisedClass
}

/**
 * Finds what no pattern can, as names and addresses, in texts that are already redacted.
 *
 * @returns the spans of each text, ascending and without overlaps
 * @throws AppError `service_unavailable`, if the recogniser does not respond in time or its response is invalid
 */
export type Recogniser = (texts: readonly string[]) => Promise<RecognisedSpan[][]>
