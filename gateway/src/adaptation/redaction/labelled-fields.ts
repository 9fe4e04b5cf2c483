import { matchingWords } from './matching-form.ts'
import { matchSpans, type Span } from './span.ts'

const PASSPORT_NAMES =
  'passport|reisepass(?:nummer|-?nr\\.?)?|passnummer|pass-?nr|passeport|pasaporte|passaporto|paspoort(?:nummer)?|paszport(?:u)?|passaporte|pasaport|passi(?:n numero)?|utlevel|паспорта?|パスポート|旅券|护照|護照|여권'
const NUMBER_WORD =
  '(?:(?:number|no|nr|n\\.|num|numero|numer|nummer|id|code|book|n°|nº|#|серия|номер|号码?|號碼?|番号|번호)[ .:]{0,2})?'
const LINK = '(?:[ .:#=*"\'|-]{0,6}|(?:is|ist|est|es|e|jest|は|是|为|為|는|은)[ :：]{0,2})'
const PASSPORT = new RegExp(
  `(?<!\\p{L})(?:${matchingWords(PASSPORT_NAMES)})[ .:]{0,2}${matchingWords(NUMBER_WORD)}${matchingWords(LINK)}((?:[A-Z]{0,3} ?\\d[A-Z0-9]{1,3} ?\\d{2,8}[A-Z0-9]{0,4}|[A-Z0-9]{6,10}))(?![A-Za-z0-9])`,
  'giu',
)
/** Machine-readable lines of passports and cards, ICAO 9303. */
const MACHINE_READABLE =
  /(?<![A-Z0-9<])(?:P[A-Z<][A-Z<]{3}[A-Z<]{39}|[A-Z0-9<]{9}\d[A-Z<]{3}\d{7}[MFX<]\d{7}[A-Z0-9<]{14}[\d<]\d|[IAC][A-Z<][A-Z]{3}[A-Z0-9<]{9}[\d<][A-Z0-9<]{15}|\d{7}[MFX<]\d{7}[A-Z<]{3}[A-Z0-9<]{11}\d)(?![A-Z0-9<])/g

/** Finds passport numbers after their name, and machine-readable lines. */
export function findPassports(text: string): Span[] {
  return [
    ...matchSpans(PASSPORT, text, (value) => (value.match(/\d/g)?.length ?? 0) >= 4),
    ...matchSpans(MACHINE_READABLE, text),
  ]
}

const BIRTH_NAMES =
  'd\\.?o\\.?b\\.?|date of birth|birth ?date|birthday|birth|born|geburtsdatum|geburtstag|geb\\.?|geboren|date de naissance|ne(?:\\(e\\)|e)?|naissance|fecha de nacimiento|f\\. ?nac\\.?|nacid[oa]|nacimiento|data di nascita|nat[oa]|geboortedatum|data urodzenia|urodzon[ya]|ur\\.|fodelsedatum|fodselsdato|fodt|fodd|syntymaaika|data de nascimento|nascid[oa]|dogum tarihi|datum narozeni|datum rodenia|szuletesi datum|ημερομηνια γεννησης|дата рождения|дата народження|родил(?:ся|ась)|生年月日|出生日期|出生年月日?|出生|생년월일|생일|تاريخ الميلاد|תאריך לידה'
const BIRTH_LINK =
  '[ .:=*"\'|(-]{0,5}(?:(?:is|on|ist|am|le|el|il|em|den|d\\.|op|dnia|est|es|は|是|于|於|为) {0,2}[:：]? {0,2})?"?'
const MONTH = '\\p{L}{3,12}\\.?'
const DATE = [
  // Day or month first, year first, and with the month's name.
  '\\d{1,2} ?[./-] ?\\d{1,2} ?[./-] ?(?:1[89]|20)?\\d{2}',
  '(?:1[89]|20)\\d{2} ?[./-] ?\\d{1,2} ?[./-] ?\\d{1,2}',
  '(?:1[89]|20)\\d{2} ?[年년] ?\\d{1,2} ?[月월] ?\\d{1,2} ?[日일号]?',
  '(?:1[89]|20)\\d{6}',
  `\\d{1,2}(?:st|nd|rd|th|er|º|\\.)? (?:de |of )?${MONTH},? (?:de |del )?(?:1[89]|20)\\d{2}`,
  `${MONTH} \\d{1,2}(?:st|nd|rd|th)?,? (?:1[89]|20)\\d{2}`,
].join('|')
const BIRTHDATE = new RegExp(
  `(?<!\\p{L})(?:${matchingWords(BIRTH_NAMES)})${matchingWords(BIRTH_LINK)}(${matchingWords(DATE)})(?!\\d|[./-]\\d)`,
  'giu',
)

/** Finds dates after a word that makes them a date of birth. */
export function findBirthdates(text: string): Span[] {
  return matchSpans(BIRTHDATE, text)
}
