import type { Span } from './span.ts'

const KEY_BEGIN = '-----BEGIN '
const KEY_END = '-----END '
const KEY_LABEL = /^[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----/
const PUTTY_BEGIN = /PuTTY-User-Key-File-\d:/g
const PUTTY_END = /Private-MAC: [0-9a-f]{40,64}/g

/** Finds blocks of private keys: PEM, PGP and PuTTY. A block without an end is one up to the end of the text. */
export function findPrivateKeys(text: string): Span[] {
  return [...findPemBlocks(text), ...findPuttyFiles(text)]
}

/** Searches instead of matching: a lazy pattern is quadratic if ends are missing. */
function findPemBlocks(text: string): Span[] {
  const spans: Span[] = []
  for (let from = 0; ;) {
    const begin = text.indexOf(KEY_BEGIN, from)
    if (begin < 0) return spans
    from = begin + KEY_BEGIN.length
    if (!KEY_LABEL.test(text.slice(from, from + 64))) continue
    const end = text.indexOf(KEY_END, begin)
    const dashes = end < 0 ? -1 : text.indexOf('-----', end + KEY_END.length)
    from = dashes < 0 ? text.length : dashes + 5
    spans.push({ start: begin, end: from })
  }
}

function findPuttyFiles(text: string): Span[] {
  const spans: Span[] = []
  for (const { index } of text.matchAll(PUTTY_BEGIN)) {
    if (index < (spans.at(-1)?.end ?? 0)) continue
    PUTTY_END.lastIndex = index
    const end = PUTTY_END.exec(text)
    spans.push({ start: index, end: end === null ? text.length : end.index + end[0].length })
  }
  return spans
}
