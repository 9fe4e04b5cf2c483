import { isValidPhoneNumber, type CountryCode } from 'libphonenumber-js/max'
import { acceptedWindows, digitRuns, type DigitGroup, type DigitRun, type Window } from './digit-runs.ts'
import { matchingWords } from './matching-form.ts'
import { PHONE_FORMS } from './phone-forms.ts'
import type { Span } from './span.ts'

const SEPARATOR = /^(?:[ .\-/]| ?[()] ?|[ .\-/][()] ?|\) ?[.\-/ ]| - | \/ |--)$/
const SIZE = { minDigits: 7, maxDigits: 17, maxGroups: 8 }
/** Numbers that programs are full of: the largest and smallest of 32 bits. */
const CONSTANTS = new Set(['2147483647', '2147483648', '4294967295', '4294967296'])
/**
 * Checks by metadata cost some 30 µs each. A text with more candidates is a list of numbers: the rest of those that have a
 * form are replaced without a check.
 */
const MAX_CHECKS = 400
/** Matches the characters before a number that is part of a word, an expression or a range. */
const IN_EXPRESSION = /[.-]$|[=*/^<>%] ?$|[\d)\]] ?- ?$/
/** Words after which any number of seven digits and more is a phone number. */
const LABEL = new RegExp(
  matchingWords(
    String.raw`(?:(?<!\p{L})(?:tel|phone|telephone|mobile|cell|fax|whatsapp|signal|sms|hotline|call|dial|ring|text|contact|telefon(?:nummer|o|e|u)?|telefoon(?:nummer)?|handy(?:nummer)?|mobil(?:nummer|e|ny|tel(?:efon)?)?|mobiel|rufnummer|durchwahl|portable|movil|celular|cellulare|cell|telemovel|komorka|komorkowy|kom|cep|natel|tlf|tfn|puh|gsm|nomor|dien thoai|numar|τηλ|тел|телефон|моб|mob(?=[.:]))|電話|手机|手機|电话|携帯|전화|휴대폰|연락처|هاتف|טלפון|फोन|โทร)(?!ids?\b)\p{L}{0,6}[^\p{L}\d\n]{0,4}(?:(?:number|no|nr|num|numero|numer|me|us|at|on|is|ist|est|es|to|番号|号码|號碼|번호|は|是|:)[^\p{L}\d\n]{0,4}){0,3}$`,
  ),
  'iu',
)

/** Finds phone numbers: international ones, and national ones in the forms of their countries or after a label. */
export function findPhoneNumbers(text: string): Span[] {
  const spans: Span[] = []
  const check = limitedCheck()
  for (const run of digitRuns(text, SEPARATOR)) {
    const { groups } = run
    if (digitsOf(groups, 0, groups.length - 1).length < SIZE.minDigits) continue
    const windows = acceptedWindows(run, SIZE, (window) => isPhoneNumber(text, run, window, check))
    for (const { first, last } of windows) spans.push(spanOf(text, groups, first, last))
  }
  return spans
}

type Check = (digits: string, country?: CountryCode) => boolean

function limitedCheck(): Check {
  let checks = 0
  return (digits, country) => checks++ >= MAX_CHECKS || isValidPhoneNumber(digits, country)
}

function isPhoneNumber(text: string, run: DigitRun, window: Window, check: Check): boolean {
  const { groups } = run
  const { first, last, digits } = window
  const start = groups[first]?.start ?? 0
  const end = groups[last]?.end ?? 0
  const written = text.slice(start, end)
  // Part of a longer word or number, or a range in brackets after a value: 402 (389-423).
  if (/^(?:\w|[.,:]\d|%)/.test(text.slice(end, end + 2))) return false
  if (written.includes('(') && !written.includes(')')) return false
  const before = text.slice(Math.max(0, start - 2), start)
  const hasPlus = /\+[ (]?$/.test(before)
  const prefix = hasPlus
    ? ''
    : /[\w.,:-]$/.test(before)
      ? undefined
      : /^(?:00|011)(?=[1-9])/.exec(digits)?.[0]
  if (prefix !== undefined && isInternational(text, groups, window, digits.slice(prefix.length), check))
    return true
  if (hasPlus || digits.length > 12 || /^00|^(\d)\1+$/.test(digits) || CONSTANTS.has(digits)) return false
  if (/\d[.,:]$|[$€£#@\\]$/.test(before)) return false
  if (first === 0 && /[\w\p{Script=Cyrillic}\p{Script=Greek}]$/u.test(before)) return false
  if (isDate(written)) return false
  // A row of single digits.
  if (groups.slice(first, last + 1).filter((group) => group.digits.length === 1).length > 2) return false
  return (
    isLabelled(text, start) ||
    (!IN_EXPRESSION.test(text.slice(Math.max(0, start - 4), start)) &&
      hasNationalForm(text, run, window, check))
  )
}

function hasNationalForm(
  text: string,
  { groups }: DigitRun,
  { first, last, digits }: Window,
  check: Check,
): boolean {
  const start = groups[first]?.start ?? 0
  const end = groups[last]?.end ?? 0
  const shape = groups
    .slice(first, last + 1)
    .map((group) => group.digits)
    .join(',')
  const isApart = standsApart(text, start, end)
  const around = `${text.slice(Math.max(0, start - 40), start)}\0${text.slice(end, end + 20)}`
  // Three numbers of a longer row of numbers.
  const isOfRow = !/^0|[-.()]/.test(text.slice(start, end)) && last - first + 1 < groups.length
  return PHONE_FORMS.some(({ groups: form, countries, bare }) => {
    if (!form.test(shape) || (bare ? !isApart || !bare.test(around) : isOfRow)) return false
    // A dot and a hyphen in one number: DFAR 252.227-7015.
    if (/\d\.\d.*\d-\d|\d-\d.*\d\.\d/.test(text.slice(start, end))) return false
    return countries === undefined ? digits.length >= 9 : countries.some((country) => check(digits, country))
  })
}

/** Accepts what the metadata accept, or else what has the length of a number and groups, and is the longest such window. */
function isInternational(
  text: string,
  groups: readonly DigitGroup[],
  { first, last }: Window,
  digits: string,
  check: Check,
): boolean {
  if (digits.length < 7 || digits.startsWith('0')) return false
  if (digits.length <= 15 && check(`+${digits}`)) return true
  // Example numbers and new ranges are in no metadata.
  const grouped = last > first && digits.length >= 8 && digits.length <= 13
  const whole = last === groups.length - 1 || digits.length + (groups[last + 1]?.digits.length ?? 0) > 13
  return (
    whole &&
    (grouped ||
      (digits.length >= 10 && digits.length <= 13 && text.charAt((groups[first]?.start ?? 0) - 1) === '+'))
  )
}

/** A space, a quote, a bracket, or a letter of a script without spaces between words. */
const STANDS_APART =
  /(?:^|[\s"'`“”„‘’‚«»‹›「『《(>,;|\uFFFC\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}])$/u

function standsApart(text: string, start: number, end: number): boolean {
  return (
    STANDS_APART.test(text.slice(Math.max(0, start - 1), start)) &&
    !/^\s*[*/+=<>-]/.test(text.slice(end, end + 3))
  )
}

/** Returns whether a word like "phone" stands before a number. */
function isLabelled(text: string, start: number): boolean {
  return LABEL.test(text.slice(Math.max(0, start - 40), start))
}

function isDate(candidate: string): boolean {
  return /^(?:\d{1,2}([./-])\d{1,2}\1(?:19|20)?\d\d(?!\d|\1\d)|(?:19|20)\d\d([./-])\d{1,2}\2\d{1,2}(?!\d)|(?:19|20)\d\d[01]\d[0-3]\d$)/.test(
    candidate,
  )
}

function digitsOf(groups: readonly DigitGroup[], first: number, last: number): string {
  return groups
    .slice(first, Math.min(last + 1, first + SIZE.maxGroups))
    .map(({ digits }) => digits)
    .join('')
}

/** Returns the span of a number with the plus sign and the bracket before it. */
function spanOf(text: string, groups: readonly DigitGroup[], first: number, last: number): Span {
  let start = groups[first]?.start ?? 0
  const end = groups[last]?.end ?? start
  const before = /\(?\+ ?\(?$|\($/.exec(text.slice(Math.max(0, start - 4), start))?.[0] ?? ''
  const closes = text.slice(start, end).includes(')')
  if (before.includes('+') || closes)
    start -= before.startsWith('(') && !closes ? before.length - 1 : before.length
  return { start, end }
}
