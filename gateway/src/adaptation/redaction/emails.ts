import { matchSpans, type Span } from './span.ts'

/**
 * Addresses with local parts and domains of any script: `müller@exämple.de`. Accents are gone from the matching form, so a
 * letter is a letter there. The local part may be quoted; the top-level domain is no number.
 */
const EMAIL =
  /(?:(?<![\p{L}\p{N}._%+-])(?:[\p{L}\p{N}._%+-]|(?<=\p{L})'(?=\p{L})){1,128}|(?<!\w)"[^"\s@]{1,64}")@(?:[\p{L}\p{N}_-]{1,63}\.){1,8}(?:\p{L}{2,63}|xn--[a-z0-9-]{1,59})(?![\p{L}\p{N}])/giu
/** Addresses that are written so that programs do not find them: `jane [at] example [dot] org`, `jane (at) example.org`. */
const SPELLED =
  /(?<![\p{L}\p{N}._%+-])[\p{L}\p{N}._%+-]{1,64} {0,2}[[({<] {0,2}(?:at|@|arroba) {0,2}[\])}>] {0,2}(?:[\p{L}\p{N}-]{1,63}(?:\.| {0,2}[[({<] {0,2}(?:dot|punkt|punto|point) {0,2}[\])}>] {0,2})){1,4}\p{L}{2,24}(?![\p{L}\p{N}])/giu

/** Finds e-mail addresses. */
export function findEmails(text: string): Span[] {
  return [
    ...(text.includes('@') ? matchSpans(EMAIL, text) : []),
    ...(/[[({<] {0,2}(?:at|@|arroba) {0,2}[\])}>]/i.test(text) ? matchSpans(SPELLED, text) : []),
  ]
}
