import { matchingWords } from './matching-form.ts'
import { NATIONAL_NUMBERS } from './national-numbers.ts'
import { matchSpans, type Span } from './span.ts'

/** Names of numbers that states give to persons; accents are gone from the matching form. */
const NAMES = [
  'ssn|itin|ein|tin|social security(?: number| no)?|taxpayer id(?:entification)?(?: number)?|tax (?:id|identification|file)(?: number)?|national id(?:entity)?(?: card)?(?: number)?|(?:id|identity) card(?: number)?|medicare(?: number| id)?|driver(?:.?s.?)? licen[cs]e(?: number| no)?|driving licen[cs]e(?: number| no)?',
  'ni number|nino|national insurance(?: number| no)?|nhs(?: number| no)?|utr|unique taxpayer reference|ppsn?',
  'steuer-?id(?:entifikationsnummer|nr)?|idnr|steueridentifikationsnummer|steuernummer|st\\.?-?nr|sozialversicherungsnummer|sv-?nummer|svnr|rentenversicherungsnummer|personalausweis(?:nummer)?|ausweisnummer|fuhrerschein(?:nummer)?|ahv(?:-?n(?:umme)?r)?|krankenversichertennummer',
  'numero de securite sociale|n° ?(?:de )?(?:secu|securite sociale)|securite sociale|nir|numero fiscal|spi|carte (?:nationale )?d.identite|avs|permis de conduire|registre national',
  'dni|nie|nif|nuss|seguridad social|documento(?: nacional)? de identidad|curp|rfc(?=[ :.#]{0,3}[A-Z&]{3,4}\\d{6})|rut|cuit|cuil|cedula',
  'codice fiscale|cod\\. ?fisc\\.?|c\\.f\\.(?!r)|carta d.identita|tessera sanitaria|partita iva',
  'bsn|burgerservicenummer|sofinummer|rijksregisternummer|rijbewijs(?:nummer)?',
  'pesel|nip|dowod osobisty|nr dowodu|rodne cislo|szemelyi szam|adoazonosito|cnp|egn|oib|emso|jmbg|amka|αφμ|инн|снилс|рнокпп|іпн',
  'personnummer|personnr|samordningsnummer|cpr(?:-?nr\\.?|-?nummer)?|fodselsnummer|fodselsnr|kennitala|henkilotunnus|hetu|isikukood',
  'cpf|rg(?=:| n)|cnh|titulo de eleitor|contribuinte|cartao de cidadao',
  'aadhaar(?: number| no)?|aadhar(?: number)?|uidai|pan(?: card)?(?: number| no)|voter id',
  'sin|social insurance(?: number)?|tfn|abn|ird(?: number)?|nric|hkid|rsa id|sa id(?: number)?|id number|id-?nummer|tckn|t\\.?c\\.? kimlik(?: no)?|kimlik(?: no| numarasi)?|mynumber',
  'マイナンバー|個人番号|身份证(?:号码?)?|身分證(?:字號)?|居民身份证号?|주민등록번호|주민번호|תעודת זהות|ת\\.?ז|الهوية',
].join('|')
const NUMBER_WORD = '(?:number|no|nr|num|numero|numer|nummer|code|id|n°|nº|号码?|號碼?|番号|번호)?'
/** A labelled number: five or more digits, among them letters or separators. */
const LABELLED = new RegExp(
  `(?<![\\p{L}\\p{N}])(${matchingWords(NAMES)})[ .#:]{0,3}${matchingWords(NUMBER_WORD)}[ .]{0,2}(?:\\([^()\\n]{1,24}\\))?(?:[ .:#=*"'|-]{0,6}|[ :]{0,2}(?:is|ist|est|es|e|jest|je|to|är|ar|er|は|是|为|為|는|은) {0,2}[:：]? {0,2}"?)((?!(?:is|ist|est|es|e|and|or|of|for|to|in|the|a)\\b)[A-Z0-9](?:[ ./-]{0,2}[A-Z0-9]){4,19})(?![A-Za-z0-9])`,
  'giu',
)

/** Finds social security, tax and identity numbers: by form and checksum, or after their name. */
export function findIdentityNumbers(text: string): Span[] {
  return [
    ...NATIONAL_NUMBERS.flatMap(({ pattern, validate }) =>
      matchSpans(pattern, text, (match) => validate?.(match.toUpperCase()).isValid ?? true),
    ),
    ...findLabelled(text),
  ]
}

/** Finds numbers after a name. Words may follow a number, so it ends before the first part that is a word. */
function findLabelled(text: string): Span[] {
  const spans: Span[] = []
  for (const match of text.matchAll(LABELLED)) {
    const [whole, name = '', value = ''] = match
    // `ein`, `sin` and `nie` are words, unless they are capitals or a sign follows.
    if (/^(?:[a-z.]{1,4}|Ein|Sin|Nie)$/.test(name) && !/[:=#]/.test(whole.slice(name.length, -value.length)))
      continue
    const kept = value.replace(/[ ./-]+[A-Za-z]{2,}(?![A-Za-z0-9]).*$/, '')
    if ((kept.match(/\d/g)?.length ?? 0) < 5 || /^[A-Za-z]{4,}[ ./-]/.test(kept)) continue
    const start = match.index + whole.length - value.length
    spans.push({ start, end: start + kept.length })
  }
  return spans
}
