import { matchingWords } from './matching-form.ts'
import { matchSpans, type Span } from './span.ts'

/** Names of a password in the languages of the corpus; accents are gone from the matching form. */
const PASSWORD = matchingWords(
  'password|passwd|pwd|passphrase|passcode|passwort|kennwort|mot de passe|motdepasse|contrasena|senha|wachtwoord|haslo|losenord|parola|sifre|пароль|パスワード|密码|密碼|비밀번호',
)
/** Short names of a password, which are also words: they count only before a value that is no word. */
const SHORT_PASSWORD = '(?<![\\p{L}\\p{N}_?&-])(?:pass|passw|psw|pw)'
/** Names of other secrets. */
const SECRET =
  '(?:api|access|account|auth|private|signing|encryption|master|license)[ _-]?key|secret|token(?!i[sz]|s_|_?(?:count|limit|type|kind|id|s)\\b)|credentials?|pepper'
const NAME_END = '[A-Za-z0-9_]{0,24}["\'\\]]{0,2}'
const ASSIGN = '\\s{0,8}(?:=>|:=|[:=])\\s{0,8}'

/** `password = "…"`, `"password": "…"`, whatever the value looks like. */
const QUOTED_PASSWORD = new RegExp(
  `(?:${PASSWORD})${NAME_END}${ASSIGN}["'\`]([^"'\`\\s]{4,512})(?=["'\`])`,
  'giu',
)
/** `"api_key": "…"`: values with a digit, or long and in mixed case. */
const QUOTED_SECRET = new RegExp(
  `(?:${SECRET})${NAME_END}${ASSIGN}["'\`]([^"'\`\\s]{6,512})(?=["'\`])`,
  'giu',
)
/** `pass = '…'`: such values, and six digits or more. */
const QUOTED_SHORT_PASSWORD = new RegExp(
  `${SHORT_PASSWORD}["'\\]]{0,2}${ASSIGN}["'\`]([^"'\`\\s]{6,512})(?=["'\`])`,
  'giu',
)
/** `DB_PASSWORD=…` as in files and commands, whatever the value looks like. */
const ENVIRONMENT =
  /(?<![A-Z0-9])[A-Z0-9_]{0,40}(?:PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|ACCOUNT_KEY|PRIVATE_KEY|ENCRYPTION_KEY|SIGNING_KEY|MASTER_KEY|PEPPER|CREDENTIALS?|DSN)(?:_[A-Z0-9_]{0,30})?=["']?([^\s"'`;&|<>]{4,512})/g
const PLAIN_VALUE =
  '(?:\\s{0,4}[:=]\\s{0,4}|\\s{1,2}(?:is|ist|est|es|e|lautet|war|was|to|era)\\s{1,2}["\'`]?|[はは：]\\s?)([^\\s"\'`,;<>()[\\]{}]{4,127}[^\\s"\'`,;<>()[\\]{}.])'
/** `password: hunter2`, `passwort = …`, `my password is …`: a word with a digit or a sign, or six digits. */
const PLAIN_PASSWORD = new RegExp(`(?<![\\p{L}])(?:${PASSWORD})${PLAIN_VALUE}`, 'giu')
/** `pass: hunter2`: a word with a digit or a sign. */
const PLAIN_SHORT_PASSWORD = new RegExp(`${SHORT_PASSWORD}${PLAIN_VALUE}`, 'giu')
/** `secret_key: 8f3a…`, `api-key = …`, `AccountKey=…`: long and random. */
const PLAIN_SECRET = new RegExp(
  `(?:${SECRET})[A-Za-z0-9_]{0,24}(?:\\s{0,4}[:=]\\s{0,4}|\\s{1,2}is\\s{1,2})([A-Za-z0-9+/_.~%-]{12,512}={0,2})`,
  'giu',
)
/** Parameters of an address: `?access_token=…`. */
const PARAMETER =
  /[?&#;](?:[\w-]{0,24}(?:token|secret|passw(?:or)?d|api[_-]?key|apikey|signature|sig|credential)|pwd|pass|auth|jwt)=([^\s&#"'<>]{6,2048})/gi
const RANDOM_PARAMETER = /[?&](?:key|code|session|sid|state|hash|k|s|t)=([A-Za-z0-9%+/_.~-]{20,2048}=*)/gi
/** Cookies of sessions, and options of commands. */
const COOKIE =
  /\b(?:[\w.-]{0,20}sess(?:ion)?(?:_?id)?|connect\.sid|sid|auth)=([A-Za-z0-9%+/_.:~-]{16,2048}=*)/gi
const OPTION =
  /--?(?:password|passwd|pass|token|secret|api-key|apikey|auth-token|access-token)[ =]["']?([^\s"'`-][^\s"'`]{5,512})/gi
/** Elements: `<password>…</password>`. */
const ELEMENT =
  /<(?:[\w:.-]{0,24})(?:password|passwd|passphrase|secret|token|api-?key)>([^<>\s]{4,512})(?=<\/)/gi
const USER_OPTION = /\bcurl\b[^\n]{0,200}?\s(?:-u|--user)[ =]?["']?([^\s:"'-]{1,64}:[^\s"']{3,128})/g

/** Finds the values of fields, variables, parameters and options that are named like a secret. */
export function findLabelledSecrets(text: string): Span[] {
  return [
    ...matchSpans(QUOTED_PASSWORD, text, isValue),
    ...matchSpans(QUOTED_SECRET, text, (value) => isValue(value) && isRandom(value)),
    ...matchSpans(
      QUOTED_SHORT_PASSWORD,
      text,
      (value) => isValue(value) && (isRandom(value) || isPin(value)),
    ),
    ...matchSpans(ENVIRONMENT, text, isValue),
    ...matchSpans(PLAIN_PASSWORD, text, (value) => isValue(value) && (isPassword(value) || isPin(value))),
    ...matchSpans(
      PLAIN_SHORT_PASSWORD,
      text,
      (value) => isValue(value) && isPassword(value) && !isQuantity(value),
    ),
    ...matchSpans(PLAIN_SECRET, text, (value) => isValue(value) && isLongRandom(value)),
    ...matchSpans(PARAMETER, text, isValue),
    ...matchSpans(RANDOM_PARAMETER, text, isLongRandom),
    ...matchSpans(COOKIE, text, isLongRandom),
    ...matchSpans(OPTION, text, (value) => isValue(value) && isRandom(value)),
    ...matchSpans(ELEMENT, text, isValue),
    ...matchSpans(USER_OPTION, text, isValue),
  ]
}

/** Text that stands for a value: a variable, a call, a placeholder, an ellipsis, or an earlier replacement. */
const NO_VALUE =
  /^(?:[$%<{[(]|\.{2,}|…|\*+$|x{3,}$|process\.env|os\.environ|(?:true|false|null|none|undefined|string|number|boolean|required|optional|redacted|changeme|example|test|secret|password|token)$)|\$\{|\[key\]|\(/i

function isValue(value: string): boolean {
  return !NO_VALUE.test(value)
}

/** Returns whether a value is more than a word or a path of names: it has a digit beside letters, or is long and mixed. */
function isRandom(value: string): boolean {
  return (
    (/\d/.test(value) && /\p{L}|[^\w]/u.test(value)) || (value.length >= 20 && /[a-z][A-Z]|[+/=]/.test(value))
  )
}

/** Returns whether a word is a password rather than the next word of a sentence, a type or an expression. */
function isPassword(value: string): boolean {
  const word = value.replace(/[.,;:!?]+$/, '')
  return (
    word.length >= 5 &&
    ((/\d/.test(word) && /\p{L}/u.test(word)) || /[!@#$%^&*+=]/.test(word)) &&
    !/^[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)+/.test(word)
  )
}

/** Returns whether a value is a number with a unit: `10.5ms`, `100.0%`, `128x128`. */
function isQuantity(value: string): boolean {
  return /^[\d.,:/]+(?:\p{L}{1,2}|[%*+]|x\d+)[.,;:!?]*$/u.test(value)
}

function isPin(value: string): boolean {
  return /^\d{6,}$/.test(value)
}

/** Returns whether a value has digits and letters mixed as random text has: at least two changes between the two. */
function isLongRandom(value: string): boolean {
  const changes = value.match(/[A-Za-z](?=\d)|\d(?=[A-Za-z])/g)?.length ?? 0
  return changes >= 3 || (changes >= 1 && /[a-z]/.test(value) && /[A-Z]/.test(value) && value.length >= 24)
}
