import { matchSpans, type Span } from './span.ts'

/**
 * Addresses with local parts and domains of any script: `müller@exämple.de`. Accents are gone from the matching form, so a
 * letter is a letter there. The local part may be quoted; the top-level domain is no number.
 */
const EMAIL =
  /(?:(?<![\p{L}\p{M}\p{N}._%+-])(?:[\p{L}\p{M}\p{N}._%+-]|(?<=\p{L})'(?=\p{L})){1,128}|(?<!\w)"[^"\s@]{1,64}")@(?:[\p{L}\p{M}\p{N}_-]{1,63}\.){1,8}(?:xn--[a-z0-9-]{1,59}|[a-z]{2,63}(?![a-z0-9])|\p{L}[\p{L}\p{M}]{1,62}(?![\p{L}\p{N}]))/giu
/** Addresses that are written so that programs do not find them: `jane [at] example [dot] org`, `jane (at) example.org`. */
const SPELLED =
  /(?<![\p{L}\p{N}._%+-])[\p{L}\p{N}._%+-]{1,64} {0,2}[[({<] {0,2}(?:at|@|arroba) {0,2}[\])}>] {0,2}(?:[\p{L}\p{N}-]{1,63}(?:\.| {0,2}[[({<] {0,2}(?:dot|punkt|punto|point) {0,2}[\])}>] {0,2})){1,4}\p{L}{2,24}(?![\p{L}\p{N}])/giu

/** Finds e-mail addresses. */
export function findEmails(text: string): Span[] {
  return [
    ...(text.includes('@') ? matchSpans(EMAIL, text).map((span) => withoutSentence(text, span)) : []),
    ...(/[[({<] {0,2}(?:at|@|arroba) {0,2}[\])}>]/i.test(text) ? matchSpans(SPELLED, text) : []),
  ]
}

/** Scripts without spaces between words, before a local part in ASCII. */
const SENTENCE =
  /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}]+(?=[\w.%+-]{1,64}@)/u

function withoutSentence(text: string, { start, end }: Span): Span {
  return { start: start + (SENTENCE.exec(text.slice(start, end))?.[0].length ?? 0), end }
}
