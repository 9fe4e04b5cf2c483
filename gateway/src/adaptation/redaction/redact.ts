import { matchingForm } from './matching-form.ts'
import { findCards, findIbans } from './accounts.ts'
import { findEmails } from './emails.ts'
import { findIdentityNumbers } from './identity-numbers.ts'
import { findIpAddresses } from './ip-addresses.ts'
import { findBirthdates, findPassports } from './labelled-fields.ts'
import { findPhoneNumbers } from './phone-numbers.ts'
import { findSecrets } from './secrets.ts'
import {
  maskSpans,
  mergeSpans,
  REDACTION_CLASSES,
  type Detector,
  type RedactionClass,
  type Span,
} from './span.ts'

/** The version of these rules. Texts that were redacted by an older one are redacted again before they are stored. */
export const REDACTION_VERSION = 4

/** A replacement, by its place in the text as it was written. */
export interface Replacement extends Span {
  of: RedactionClass
}

/** A redacted text, what was replaced in it, and how many replacements of each class it has. */
export interface Redaction {
  text: string
  spans: readonly Replacement[]
  counts: Partial<Record<RedactionClass, number>>
}

const DETECTORS: Record<RedactionClass, Detector> = {
  key: findSecrets,
  email: findEmails,
  ip: findIpAddresses,
  iban: findIbans,
  card: findCards,
  passport: findPassports,
  birthdate: findBirthdates,
  id: findIdentityNumbers,
  phone: findPhoneNumbers,
}

/** Replaces personal data and credentials by their class in brackets, as `[email]`, before a text is stored. */
export function redact(text: string): string {
  return redactCounted(text).text
}

/**
 * Replaces personal data and credentials, and counts the replacements of each class.
 *
 * Detectors read the matching form of the text, one after the other, each without what those before it found. The
 * replaced spans are cut from the text as it was written. Every detector takes time linear in the text: repetitions are
 * bounded, or can only start at the beginning of a run, and what costs more is tried on a bounded number of candidates.
 * Candidates with a checksum or a grammar are verified, so that measurements, versions and dates stay unchanged.
 */
export function redactCounted(text: string): Redaction {
  const form = matchingForm(text)
  const found: Replacement[] = []
  let rest = form.text
  for (const of of REDACTION_CLASSES) {
    const spans = mergeSpans(DETECTORS[of](rest))
    rest = maskSpans(rest, spans)
    for (const span of spans) found.push({ ...form.original(span), of })
  }
  if (found.length === 0) return { text, spans: [], counts: {} }
  return replaceSpans(
    text,
    found.toSorted((a, b) => a.start - b.start),
  )
}

function replaceSpans(text: string, spans: readonly Replacement[]): Redaction {
  const parts: string[] = []
  const counts: Redaction['counts'] = {}
  const replaced: Replacement[] = []
  let from = 0
  for (const { start, end, of } of spans) {
    // Two spans of the matching form can be parts of one written character.
    if (end <= from) continue
    parts.push(text.slice(from, Math.max(start, from)), `[${of}]`)
    replaced.push({ start: Math.max(start, from), end, of })
    counts[of] = (counts[of] ?? 0) + 1
    from = end
  }
  parts.push(text.slice(from))
  return { text: parts.join(''), spans: replaced, counts }
}
