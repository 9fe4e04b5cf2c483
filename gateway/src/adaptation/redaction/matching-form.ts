import type { Span } from './span.ts'

/** A text as detectors read it, and the way back to the text as it was written. */
export interface MatchingForm {
  text: string
  /** Returns the span of the written text that a span of the matching form stands for. */
  original(span: Span): Span
}

const ASCII_ONLY = /^[\0-\x7F]*$/
/** Characters that are not seen, and marks of accents. Japanese marks of sound are letters of their own when composed. */
const UNSEEN = /(?!\u3099|\u309A)\p{Mn}|\p{Me}|\p{Cf}|\p{Default_Ignorable_Code_Point}/gu
const DASHES = /[\u058A\u05BE\u2010-\u2015\u2043\u2212\u2E3A\u2E3B\u30FC\uFE58\uFE63\uFF0D]/g
const SPACES = /[\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]/g
const DOTS = /[\u00B7\u2022\u2024\u2027\u3002\u30FB\uFF0E\uFF61]/g
const DIGIT = /^\p{Nd}$/u
/** Characters whose form is remembered: those of all scripts in daily use, some 20,000 of them Chinese. */
const MAX_FORMS = 32_768
const forms = new Map<string, string>()

/**
 * Returns the form of a text in which equal-looking characters are equal: full width and mathematical letters and digits,
 * the digits of other scripts, dashes, spaces and letters with accents become ASCII, and characters that are not seen are
 * left out. Only detectors read it; what they find is cut from the written text.
 */
export function matchingForm(text: string): MatchingForm {
  if (ASCII_ONLY.test(text)) return { text, original: (span) => span }
  const parts: string[] = []
  // Where each character of the form begins in the text; the last entry is the length of the text.
  const starts = new Uint32Array(text.length * 4 + 1)
  let length = 0
  let at = 0
  for (const character of text) {
    const form = character < '\x80' ? character : formOf(character)
    // No character has a form of more than 18; those of more than four are ligatures of words.
    const kept = form.length > 4 ? form.slice(0, 4) : form
    for (let index = 0; index < kept.length; index++) starts[length++] = at
    parts.push(kept)
    at += character.length
  }
  starts[length] = text.length
  const written = (position: number) => starts[position] ?? text.length
  return {
    text: parts.join(''),
    original({ start, end }) {
      let after = end
      // A character that has a form of several is replaced whole.
      while (after > 0 && after < length && written(after) === written(after - 1)) after++
      return { start: written(start), end: written(after) }
    },
  }
}

function formOf(character: string): string {
  const known = forms.get(character)
  if (known !== undefined) return known
  const form = DIGIT.test(character)
    ? digitOf(character)
    : character
        .replace(DASHES, '-')
        .replace(SPACES, ' ')
        .replace(DOTS, '.')
        .normalize('NFKD')
        .replace(UNSEEN, '')
        .normalize('NFC')
  if (forms.size < MAX_FORMS) forms.set(character, form)
  return form
}

/** Returns the ASCII digit of a decimal digit of any script: they stand in runs of ten, of which the first is a zero. */
function digitOf(digit: string): string {
  const compatible = digit.normalize('NFKC')
  if (compatible < '\x80') return compatible
  const code = digit.codePointAt(0) ?? 0
  let zero = code
  while (code - zero < 9 && DIGIT.test(String.fromCodePoint(zero - 1))) zero--
  return String((code - zero) % 10)
}

/** Returns words for a pattern as they are in the matching form. ASCII stays as it is, and so does the syntax of a pattern. */
export function matchingWords(words: string): string {
  return matchingForm(words).text
}
