/**
 * Replaces personal data and credentials by `[email]`, `[phone]`, `[card]`, `[iban]`, `[ip]` or `[key]`, before a text
 * is stored.
 *
 * Every pattern takes time linear in the text: repetitions are bounded, or can only start at the beginning of a run.
 * Candidates with a check digit or a grammar (cards, IBAN, IP addresses) are verified, so that measurements, versions
 * and dates stay unchanged.
 */
export function redact(text: string): string {
  let redacted = redactPrivateKeys(text)
  for (const [pattern, replace] of RULES) redacted = redacted.replace(pattern, replace)
  return redacted
}

type Replace = (match: string, ...groups: string[]) => string

const RULES: readonly (readonly [RegExp, Replace])[] = [
  // Tokens with the prefixes that their issuers document, and JSON Web Tokens.
  [/(?<![A-Za-z0-9_-])(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}/g, () => '[key]'],
  [
    /(?<![A-Za-z0-9_])(?:gh[opsur]|hf|npm|glpat|github_pat|shpat|dop_v1)[-_][A-Za-z0-9_-]{16,}/g,
    () => '[key]',
  ],
  [/(?<![A-Za-z0-9_-])xox[abeoprs]-[A-Za-z0-9-]{10,}/g, () => '[key]'],
  [/(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])/g, () => '[key]'],
  [/(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])/g, () => '[key]'],
  [/(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*/g, () => '[key]'],
  [/\b(Bearer|Basic) [A-Za-z0-9+/._~-]{16,4096}=*/gi, (_match, scheme) => `${scheme} [key]`],
  // Quoted values of fields that are named like a secret: `password = "…"`, `"api_key": "…"`.
  [
    /\b((?:api_?key|access_?key|secret|token|passwd|password|pwd)["']?\s{0,8}[:=]\s{0,8}["'])[^"'\s]{6,512}(?=["'])/gi,
    (_match, field) => `${field}[key]`,
  ],
  [/:\/\/[^\s/@:]{1,256}:[^\s/@]{1,256}@/g, () => '://[key]@'],
  [
    /(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}/g,
    () => '[email]',
  ],
  [/(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}/g, (match) => redactIban(match)],
  [/(?<![\d.+-])\d(?:[ -]?\d){12,}/g, (match) => redactCards(match)],
  [/(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)/g, (match) => (isIpv4(match) ? '[ip]' : match)],
  [
    /(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])/g,
    (match) => (isIpv6(match) ? '[ip]' : match),
  ],
  // Phone numbers: international; North American; national numbers elsewhere, which begin with 0.
  [/(?<![\w+])(?:\+|00)[1-9](?:[ ()./-]{0,2}\d){6,14}(?!\d)/g, () => '[phone]'],
  [/(?<![\w.-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])/g, () => '[phone]'],
  [/(?<![\w.,:-])\(?0\d{1,4}\)?[ /-]\d{3,4}(?:[ -]?\d{2,4}){1,3}(?!\w)/g, () => '[phone]'],
]

const KEY_BEGIN = '-----BEGIN '
const KEY_END = '-----END '

/** Replaces PEM blocks of private keys. Searches instead of matching: a lazy pattern is quadratic if ends are missing. */
function redactPrivateKeys(text: string): string {
  let redacted = ''
  let from = 0
  for (;;) {
    const begin = text.indexOf(KEY_BEGIN, from)
    if (begin < 0) return redacted + text.slice(from)
    const label = /^[A-Z ]{0,40}PRIVATE KEY-----/.exec(
      text.slice(begin + KEY_BEGIN.length, begin + KEY_BEGIN.length + 64),
    )
    if (!label) {
      redacted += text.slice(from, begin + KEY_BEGIN.length)
      from = begin + KEY_BEGIN.length
      continue
    }
    redacted += `${text.slice(from, begin)}[key]`
    const end = text.indexOf(KEY_END, begin)
    // A truncated block is a key up to the end of the text.
    if (end < 0) return redacted
    const dashes = text.indexOf('-----', end + KEY_END.length)
    if (dashes < 0) return redacted
    from = dashes + 5
  }
}

/** Length of an IBAN by country, ISO 13616. */
const IBAN_LENGTHS = new Map(
  Object.entries({
    AD: 24,
    AE: 23,
    AT: 20,
    BE: 16,
    BG: 22,
    CH: 21,
    CY: 28,
    CZ: 24,
    DE: 22,
    DK: 18,
    EE: 20,
    ES: 24,
    FI: 18,
    FR: 27,
    GB: 22,
    GR: 27,
    HR: 21,
    HU: 28,
    IE: 22,
    IL: 23,
    IS: 26,
    IT: 27,
    LI: 21,
    LT: 20,
    LU: 20,
    LV: 21,
    MC: 27,
    MT: 31,
    NL: 18,
    NO: 15,
    PL: 28,
    PT: 25,
    RO: 24,
    RS: 22,
    SA: 24,
    SE: 24,
    SI: 19,
    SK: 24,
    SM: 27,
    TR: 26,
    UA: 29,
  }),
)

/** Replaces an IBAN at the start of the candidate. The match may include words after it, so its length is the country's. */
function redactIban(candidate: string): string {
  const length = IBAN_LENGTHS.get(candidate.slice(0, 2))
  if (length === undefined) return candidate
  let compact = ''
  let end = 0
  while (end < candidate.length && compact.length < length) {
    const character = candidate.charAt(end++)
    if (character !== ' ') compact += character
  }
  const rest = candidate.slice(end)
  if (compact.length < length || /^[A-Z0-9]/.test(rest)) return candidate
  let remainder = 0
  for (const character of compact.slice(4) + compact.slice(0, 4)) {
    const value = Number.parseInt(character, 36)
    remainder = (remainder * (value > 9 ? 100 : 10) + value) % 97
  }
  return remainder === 1 ? `[iban]${rest}` : candidate
}

/** Replaces card numbers in a run of digit groups: 13 to 19 digits with the first digit and check digit of a card. */
function redactCards(run: string): string {
  const groups = run.split(/([ -])/)
  let redacted = ''
  for (let first = 0; first < groups.length;) {
    const last = cardEnd(groups, first)
    redacted += last === undefined ? (groups[first] ?? '') : '[card]'
    const next = (last ?? first) + 1
    redacted += groups[next] ?? ''
    first = next + 1
  }
  return redacted
}

/** Returns the index of the last group of a card number that starts at group `first`; separators have odd indices. */
function cardEnd(groups: readonly string[], first: number): number | undefined {
  let digits = ''
  for (let last = first; last < groups.length; last += 2) {
    digits += groups[last] ?? ''
    if (digits.length > 19) return undefined
    if (digits.length >= 13 && /^[2-6]/.test(digits) && passesLuhn(digits)) return last
  }
  return undefined
}

function passesLuhn(digits: string): boolean {
  let sum = 0
  for (let index = 0; index < digits.length; index++) {
    const digit = Number(digits.charAt(digits.length - 1 - index))
    const doubled = index % 2 === 1 ? digit * 2 : digit
    sum += doubled > 9 ? doubled - 9 : doubled
  }
  return sum % 10 === 0
}

function isIpv4(candidate: string): boolean {
  return candidate.split('.').every((part) => Number(part) <= 255 && (part === '0' || !part.startsWith('0')))
}

/** Accepts eight groups, or fewer with one `::` and a digit: `12:30:45` is a time, `std::string` is code. */
function isIpv6(candidate: string): boolean {
  const halves = candidate.split('::')
  const groups = candidate.split(':').filter(Boolean).length
  if (halves.length === 1) return groups === 8
  return halves.length === 2 && groups >= 1 && groups <= 7 && /\d/.test(candidate)
}
