/**
 * Patterns of the text around a number without separators, by which it is taken for a phone number. They match some characters
 * before it, a NUL character in its place, and some characters after it.
 */
import { matchingWords } from './matching-form.ts'

/** Alone in its line, and in no column of numbers. */
const LONE = String.raw`(?:^|[\p{L}\uFFFC][^\n]*\n)\s*\0[ \t.,;]*(?:$|\n(?!\s*\d))`
/** "my number is", "ph", "reach me at", "call Sam on". */
const INVITATION = String.raw`\b(?:(?:my|our|his|her|their|your)(?: (?:new|old|work|home|office|direct|other))? (?:number|no|nr)(?: is(?: now)?)?|ph|(?:reach|call|text|ring|phone|contact|message)\b[^\d\n]{0,30}\b(?:at|on|via))[^\p{L}\d\n]{0,3}\0`
/** `P: `, `M. ` or `T ` before a number in a signature: at the beginning of a line, or after the number before. In capitals. */
const LETTER = String.raw`(?:(?:^|\n)[> \t]*|[\d)] ?[|,;•·/] ?|\d )(?-i:[CDFHMOPTW])[.:]{1,2} ?\0(?! ?\p{L}(?![.:]))`
/** Names of numbers that are no phone numbers. */
const IDENTIFIERS = matchingWords(
  [
    'order|ticket|invoice|case|tracking|reference|ref|account|acct|serial|part|item|article|transaction|booking|isbn(?:-1[03])?|ean|upc|gtin|sku|id|code',
    '(?:bestell|rechnungs?|auftrags?|kunden|artikel|serien|vorgangs|konto|vertrags|sendungs)-?(?:nummer|nr)?|bestellung|auftrag|vorgang',
    'commande|facture|dossier|contrat|pedido|factura|expediente|encomenda|fatura|ordine|fattura',
    'заказа?|счета?|договора?|артикул|трек',
  ].join('|'),
)
const NUMBER_WORD = matchingWords('number|nummer|numero|num|no|nr|n|номер')
/** Not after the name of an identifier ("in case", "to order" and "for booking" are none), nor after a Chinese word for a sum. */
const NO_IDENTIFIER = String.raw`(?<!(?:(?<!\p{L}|\b(?:in|to|for) )(?:${IDENTIFIERS})(?:[ _]?(?:${NUMBER_WORD}|id))?|订单|訂單|[单單编編][号號]|QQ|[共约約])[^\p{L}\d]{0,4})\0`

/** After an invitation to call or a letter that stands for "phone", or alone in its line. */
export const CONTACT = new RegExp(`${INVITATION}|${LETTER}|${LONE}`, 'iu')
/** Anywhere but after the name of an identifier: few other numbers begin with one zero. */
export const LEADING_ZERO = new RegExp(NO_IDENTIFIER, 'iu')
/** In Chinese text, after an invitation to call, or alone in its line. */
export const IN_CHINESE = new RegExp(
  String.raw`(?<=\p{Script=Han}[^\0]{0,8})${NO_IDENTIFIER}|${NO_IDENTIFIER}(?=[ ,]{0,2}\p{Script=Han})|${INVITATION}|${LETTER}|${LONE}`,
  'iu',
)
/** In text of Cyrillic script, after an invitation to call, or alone in its line. */
export const IN_CYRILLIC = new RegExp(
  String.raw`(?<=\p{Script=Cyrillic}[^\0]{0,16})${NO_IDENTIFIER}|${NO_IDENTIFIER}(?=[ ,-]{0,3}\p{Script=Cyrillic})|${INVITATION}|${LETTER}|${LONE}`,
  'iu',
)
