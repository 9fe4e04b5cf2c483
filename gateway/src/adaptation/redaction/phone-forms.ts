import type { CountryCode } from 'libphonenumber-js/max'
import { CONTACT, IN_CHINESE, IN_CYRILLIC, LEADING_ZERO } from './bare-numbers.ts'

/** A form in which national numbers are written: the lengths of its groups, and the countries where it is. */
interface PhoneForm {
  /** Matches the digits of the groups, joined by commas. */
  groups: RegExp
  /** Where a number of this form must be valid; the form alone is enough without it. */
  countries?: readonly CountryCode[]
  /**
   * Given for numbers without separators, most of which are identifiers: matches what must be around one, in whose place
   * is a NUL character. It also stands apart from code and lists: after a space, a quote or a bracket.
   */
  bare?: RegExp
}

const TRUNK_ZERO: readonly CountryCode[] = [
  'GB',
  'DE',
  'FR',
  'IT',
  'AU',
  'JP',
  'NL',
  'CH',
  'SE',
  'KR',
  'IN',
  'CN',
  'AT',
  'BE',
  'IE',
  'TR',
  'ZA',
  'FI',
  'NZ',
  'IL',
  'UA',
  'RO',
  'TW',
  'TH',
  'ID',
  'AR',
]

/** Forms of national numbers that need no word like "phone" before them. */
export const PHONE_FORMS: readonly PhoneForm[] = [
  // North America, and Mexico: 415-555-2671.
  { groups: /^(?:1,)?[2-9]\d\d,[2-9]\d\d,\d{4}$/, countries: ['US', 'CA', 'MX', 'PR', 'JM'] },
  { groups: /^1?[2-9]\d\d[2-9]\d{6}$/, countries: ['US', 'CA'], bare: CONTACT },
  // After a trunk zero: 06 12 34 56 78, 020 7946 0958, 030/1234567, 0412 345 678, 090-1234-5678.
  { groups: /^0[1-9](?:,\d\d){4}$/ },
  { groups: /^0,[1-9]\d\d,\d{3},\d\d,\d\d$/, countries: ['TR'] },
  { groups: /^0[1-9]\d{0,3},\d{3,4}(?:,\d{2,4}){1,3}$/ },
  { groups: /^0[1-9]\d{0,4},\d{5,8}(?:,\d{1,4})?$/ },
  // ZIP codes of nine digits have five and four.
  { groups: /^(?!\d{5},\d{4}$)0[1-9]\d{0,4}(?:,\d{1,4}){1,5}$/, countries: TRUNK_ZERO },
  { groups: /^0[1-9]\d{8,10}$/, countries: TRUNK_ZERO, bare: LEADING_ZERO },
  // Without one: China, India, Italy, Spain, Portugal, Poland, Greece, Brazil, Russia.
  { groups: /^1[3-9]\d,\d{4},\d{4}$/, countries: ['CN'] },
  { groups: /^1[3-9]\d{9}$/, countries: ['CN'], bare: IN_CHINESE },
  { groups: /^[6-9]\d{4},\d{5}$/, countries: ['IN'] },
  { groups: /^3\d\d,\d{3},\d{4}$|^3\d\d,\d{6,7}$|^3\d\d,\d\d,\d\d,\d{3}$/, countries: ['IT'] },
  {
    groups: /^[679]\d\d(?:,\d{3},\d{3}|(?:,\d\d){3})$|^9\d,\d{3},\d\d,\d\d$/,
    countries: ['ES', 'PT', 'PL', 'CZ'],
  },
  { groups: /^[45678]\d\d,\d{3},\d{3}$/, countries: ['PL', 'CZ'] },
  { groups: /^[1-8]\d,\d{3},\d\d,\d\d$/, countries: ['PL'] },
  { groups: /^(?:69\d|2\d\d),\d{3},\d{4}$|^69\d{2},\d{3},\d{3}$/, countries: ['GR'] },
  { groups: /^[1-9]\d,9\d{4},\d{4}$/, countries: ['BR'] },
  { groups: /^[1-9]\d,[2-5]\d{3},\d{4}$/, countries: ['BR', 'MX'] },
  { groups: /^(?:33|55|56|81),\d{4},\d{4}$/, countries: ['MX'] },
  // With the 8 for long distance, or the 7 of the country without its plus sign: 8 (912) 345-67-89, 8 (8452) 12-34-56.
  {
    groups:
      /^[78],(?:[3-9]\d\d,(?:\d{3},\d\d,?\d\d|\d{7})|[3-8]\d{3},(?:\d\d,\d\d,\d\d|\d{6})|[3-8]\d{4},(?:\d,\d\d,\d\d|\d{5}))$/,
    countries: ['RU', 'KZ'],
  },
  { groups: /^[3-9]\d\d,\d{3},\d\d,\d\d$/, countries: ['RU', 'KZ'] },
  { groups: /^[78]9\d{9}$/, countries: ['RU'], bare: IN_CYRILLIC },
]
