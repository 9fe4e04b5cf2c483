import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { redactCounted } from '../../../gateway/src/adaptation/redaction/redact.ts'
import type { RedactionClass } from '../../../gateway/src/adaptation/redaction/span.ts'

const FOLDER = resolve(import.meta.dirname, '../../fixtures/redaction')
const LOOKALIKES = 'lookalikes.json'
const SPAN = /⟦[^⟧]*⟧/g

/** A text of the corpus. The span between ⟦ and ⟧ is to be replaced; texts in parts are their concatenation. */
interface CorpusString {
  country: string
  class: RedactionClass
  text: string | string[]
}

/** How many strings of a class there are, and how many come out exactly as expected, or without any of the span. */
export interface Recall {
  strings: number
  exact: number
  /** Strings whose span is gone, even if more than it, or under the name of another class. */
  gone: number
}

/** The strings of the corpus that hold something to be replaced. */
export function readCorpus(): (CorpusString & { file: string; text: string })[] {
  return readdirSync(FOLDER)
    .filter((file) => file !== LOOKALIKES)
    .flatMap((file) => {
      const { strings } = JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as { strings: CorpusString[] }
      return strings.map((string) => ({ ...string, file, text: [string.text].flat().join('') }))
    })
}

/** Texts of which nothing is to be replaced. */
export function readLookalikes(): string[] {
  return (JSON.parse(readFileSync(join(FOLDER, LOOKALIKES), 'utf8')) as { strings: string[] }).strings
}

/** Redacts the corpus and counts what was replaced, by class. */
export function measureRecall(): Record<string, Recall> {
  const recall: Record<string, Recall> = {}
  for (const { class: of, text } of readCorpus()) {
    const counted = (recall[of] ??= { strings: 0, exact: 0, gone: 0 })
    const redacted = redactCounted(text.replaceAll(/[⟦⟧]/g, '')).text
    counted.strings++
    if (redacted === text.replaceAll(SPAN, `[${of}]`)) counted.exact++
    const spans = [...text.matchAll(SPAN)].map(([span]) => span.slice(1, -1))
    if (spans.every((span) => !redacted.includes(span))) counted.gone++
  }
  return recall
}

/** Returns how many strings each class replaced that were not to be replaced as this class. */
export function measureWrong(): Partial<Record<RedactionClass, number>> {
  const wrong: Partial<Record<RedactionClass, number>> = {}
  const add = (of: string, count: number) => {
    wrong[of as RedactionClass] = (wrong[of as RedactionClass] ?? 0) + count
  }
  for (const { class: of, text } of readCorpus()) {
    const expected = text.match(SPAN)?.length ?? 0
    for (const [found, count] of Object.entries(redactCounted(text.replaceAll(/[⟦⟧]/g, '')).counts)) {
      const extra = found === of ? Math.max(0, count - expected) : count
      if (extra > 0) add(found, extra)
    }
  }
  for (const text of readLookalikes()) {
    for (const [found, count] of Object.entries(redactCounted(text).counts)) add(found, count)
  }
  return wrong
}

/** Where numbers stand that are no personal data. */
const NUMBER_PLACES = ['order %d was shipped', '{"size": %d, "name": "a"}', '%d bytes']

/** Counts, by length, the numbers of which something is replaced: a thousand spread over all of a length, in each place. */
export function measureNumbers(): { digits: number; numbers: number; replaced: number }[] {
  return [8, 9, 10, 11, 12, 13, 16].map((digits) => {
    const smallest = 10 ** (digits - 1)
    const texts = Array.from({ length: 1000 }, (_, index) =>
      String(smallest + Math.floor(9 * smallest * ((index * Math.SQRT2) % 1))),
    ).flatMap((number) => NUMBER_PLACES.map((place) => place.replace('%d', number)))
    return {
      digits,
      numbers: texts.length,
      replaced: texts.filter((text) => redactCounted(text).text !== text).length,
    }
  })
}
