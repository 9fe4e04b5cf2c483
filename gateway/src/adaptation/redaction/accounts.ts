import cards from 'card-validator'
import { countrySpecs, electronicFormatIBAN, isValidIBAN } from 'ibantools'
import { acceptedWindows, digitRuns } from './digit-runs.ts'
import type { Span } from './span.ts'

const CARD_SEPARATOR = /^(?:[ .\-_/]|, ?| - )$/
/** The longest card numbers have 19 digits, in at most five groups. */
const CARD_SIZE = { minDigits: 13, maxDigits: 19, maxGroups: 5 }
/** Lengths of the groups in which numbers are printed on cards. */
const CARD_GROUPS = /^(?:\d{13,19}|4,4,4,(?:[1-7]|4,[1-3])|4,6,[45]|6,(?:7|8|9|10|11|12|13)|4,4,5|8,8)$/

/** Finds card numbers: the prefix and length of an issuer, the check digit, and the groups of a card. */
export function findCards(text: string): Span[] {
  const spans: Span[] = []
  for (const run of digitRuns(text, CARD_SEPARATOR)) {
    const windows = acceptedWindows(run, CARD_SIZE, ({ first, last, digits }) => {
      const groups = run.groups.slice(first, last + 1)
      const shape = groups.length === 1 ? digits : groups.map((group) => group.digits.length).join(',')
      return (
        CARD_GROUPS.test(shape) &&
        passesLuhn(digits) &&
        cards.number(digits).isValid &&
        isApart(text, run.groups, first, last)
      )
    })
    for (const { first, last } of windows) spans.push(spanOf(run.groups, first, last))
  }
  return spans
}

/** Returns whether the digits are no part of a longer word or a decimal fraction. */
function isApart(
  text: string,
  groups: readonly { start: number; end: number }[],
  first: number,
  last: number,
): boolean {
  const { start, end } = spanOf(groups, first, last)
  return (
    !/[\w]$|\d\.$|[+]$/.test(text.slice(Math.max(0, start - 2), start)) &&
    !/^\w/.test(text.slice(end, end + 1))
  )
}

function spanOf(groups: readonly { start: number; end: number }[], first: number, last: number): Span {
  return { start: groups[first]?.start ?? 0, end: groups[last]?.end ?? 0 }
}

/** Issuers whose numbers have no check digit would make every number of 16 digits a card. */
function passesLuhn(digits: string): boolean {
  let sum = 0
  for (let index = 0; index < digits.length; index++) {
    const digit = digits.charCodeAt(digits.length - 1 - index) - 48
    const doubled = index % 2 === 1 ? digit * 2 : digit
    sum += doubled > 9 ? doubled - 9 : doubled
  }
  return sum % 10 === 0
}

/** The beginning of an IBAN in any case; its length is the country's. Groups are separated by one character. */
const IBAN_START = /(?<![A-Za-z0-9])[A-Za-z]{2}[ -]?\d[ -]?\d(?=[ .-]?[A-Za-z0-9])/g
const MAX_IBAN_CHARACTERS = 34 * 2

/** Finds IBANs of every country of the registry, in any case and grouping. */
export function findIbans(text: string): Span[] {
  const spans: Span[] = []
  for (const match of text.matchAll(IBAN_START)) {
    const length = countrySpecs[match[0].slice(0, 2).toUpperCase() as keyof typeof countrySpecs]?.chars
    if (typeof length !== 'number') continue
    const end = endOfIban(text, match.index, length)
    if (end !== undefined) spans.push({ start: match.index, end })
  }
  return spans
}

/** Returns the end of the IBAN of `length` characters that starts at `start`; words may follow it. */
function endOfIban(text: string, start: number, length: number): number | undefined {
  let compact = ''
  let separated = false
  for (let at = start; at < Math.min(text.length, start + MAX_IBAN_CHARACTERS); at++) {
    const character = text.charAt(at)
    if (/[A-Za-z0-9]/.test(character)) {
      compact += character
      separated = false
      if (compact.length < length) continue
      const next = text.charAt(at + 1)
      return /[A-Za-z0-9]/.test(next) || !isValidIBAN(electronicFormatIBAN(compact) ?? '')
        ? undefined
        : at + 1
    }
    if (separated || !/[ .-]/.test(character)) return undefined
    separated = true
  }
  return undefined
}
