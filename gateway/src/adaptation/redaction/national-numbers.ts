import { validate as isBe } from 'stdnum/lib/cjs/be/nn.js'
import { validate as isCpf } from 'stdnum/lib/cjs/br/cpf.js'
import { validate as isSin } from 'stdnum/lib/cjs/ca/sin.js'
import { validate as isAhv } from 'stdnum/lib/cjs/ch/ssn.js'
import { validate as isRic } from 'stdnum/lib/cjs/cn/ric.js'
import { validate as isIdnr } from 'stdnum/lib/cjs/de/idnr.js'
import { validate as isSvnr } from 'stdnum/lib/cjs/de/svnr.js'
import { validate as isCpr } from 'stdnum/lib/cjs/dk/cpr.js'
import { validate as isDni } from 'stdnum/lib/cjs/es/dni.js'
import { validate as isNie } from 'stdnum/lib/cjs/es/nie.js'
import { validate as isHetu } from 'stdnum/lib/cjs/fi/hetu.js'
import { validate as isNir } from 'stdnum/lib/cjs/fr/nir.js'
import { validate as isNino } from 'stdnum/lib/cjs/gb/nino.js'
import { validate as isPps } from 'stdnum/lib/cjs/ie/pps.js'
import { validate as isAadhaar } from 'stdnum/lib/cjs/in/aadhaar.js'
import { validate as isPan } from 'stdnum/lib/cjs/in/pan.js'
import { validate as isCodiceFiscale } from 'stdnum/lib/cjs/it/codicefiscale.js'
import { validate as isRrn } from 'stdnum/lib/cjs/kr/rrn.js'
import { validate as isCurp } from 'stdnum/lib/cjs/mx/curp.js'
import { validate as isFodselsnummer } from 'stdnum/lib/cjs/no/fodselsnummer.js'
import { validate as isPesel } from 'stdnum/lib/cjs/pl/pesel.js'
import { validate as isPersonnummer } from 'stdnum/lib/cjs/se/personnummer.js'

/** A number that a state gives to a person, in a form that nothing else has. */
interface NationalNumber {
  /** The form, with lookarounds that keep it apart from longer words and numbers. */
  pattern: RegExp
  /** Checks digits, dates and districts; absent where the form alone is enough. */
  validate?: (value: string) => { isValid: boolean }
}

const alone = (form: string, flags = 'g') =>
  new RegExp(`(?<![\\w+]|\\d[.,-])(?:${form})(?!\\w|[.,-]\\d)`, flags)

/** Numbers that are recognized without a label, because a form and a checksum, or a form that is unique, make it safe. */
export const NATIONAL_NUMBERS: readonly NationalNumber[] = [
  // United States: social security number and individual taxpayer number, written with hyphens.
  { pattern: alone('(?!000|666)\\d{3}-(?!00)\\d{2}-(?!0000)\\d{4}') },
  {
    pattern: alone('[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\\d{2} ?\\d{2} ?\\d{2} ?[A-D]', 'gi'),
    validate: isNino,
  },
  {
    pattern: alone('[12] ?\\d{2} ?\\d{2} ?(?:\\d{2}|2[AB]) ?\\d{3} ?\\d{3}[ /-]?\\d{2}', 'gi'),
    validate: isNir,
  },
  { pattern: alone('\\d{2}(?: ?\\d{3} ?\\d{3}|\\.\\d{3}\\.\\d{3})[ -]?[A-Z]', 'gi'), validate: isDni },
  { pattern: alone('[XYZ][ -]?\\d{7}[ -]?[A-Z]', 'gi'), validate: isNie },
  {
    // Letters can stand for digits; the checksum of sixteen letters is right by chance in every 26th word.
    pattern: alone(
      '(?=[A-Z]{6}[A-Z]{0,5}\\d)[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]',
      'gi',
    ),
    validate: isCodiceFiscale,
  },
  { pattern: alone('(?:\\d{2}){3,4}[-+]\\d{4}'), validate: isPersonnummer },
  { pattern: alone('\\d{6}-\\d{4}'), validate: isCpr },
  { pattern: alone('\\d{6} ?\\d{5}'), validate: isFodselsnummer },
  { pattern: alone('\\d{6}[-+A]\\d{3}[0-9A-Z]', 'gi'), validate: isHetu },
  { pattern: alone('\\d{11}'), validate: isPesel },
  { pattern: alone('\\d{2} \\d{3} \\d{3} \\d{3}'), validate: isGermanTaxNumber },
  { pattern: alone('\\d{2} ?\\d{6} ?[A-Z] ?\\d{3}', 'gi'), validate: isSvnr },
  { pattern: alone('\\d{3}\\.\\d{3}\\.\\d{3}-\\d{2}'), validate: isCpf },
  { pattern: alone('[2-9]\\d{3}[ -]\\d{4}[ -]\\d{4}'), validate: isAadhaar },
  { pattern: alone('[A-Z]{3}P[A-Z]\\d{4}[A-Z]'), validate: isPan },
  { pattern: alone('\\d{17}[\\dX]', 'gi'), validate: isRic },
  { pattern: alone('\\d{6}-[1-8]\\d{6}'), validate: isRrn },
  { pattern: alone('756\\.?\\d{4}\\.?\\d{4}\\.?\\d{2}'), validate: isAhv },
  { pattern: alone('\\d{2}\\.\\d{2}\\.\\d{2}-\\d{3}\\.\\d{2}'), validate: isBe },
  { pattern: alone('\\d{3}-\\d{3}-\\d{3}'), validate: isSin },
  { pattern: alone('\\d{7}[A-W][A-IW]?'), validate: isPps },
  { pattern: alone('[A-Z]{4}\\d{6}[HM][A-Z]{5}[A-Z0-9]\\d'), validate: isCurp },
]

/**
 * Checks a German tax number, in whose first ten digits one digit is there two or three times and no other more than once. The
 * library does not check how often: by the check digit, ten milliards with spaces would be one.
 */
function isGermanTaxNumber(value: string): { isValid: boolean } {
  const digits = value.replaceAll(' ', '').slice(0, 10)
  const repeated = [...Map.groupBy(digits, (digit) => digit).values()].filter(({ length }) => length > 1)
  return { isValid: repeated.length === 1 && (repeated[0]?.length ?? 0) <= 3 && isIdnr(value).isValid }
}
