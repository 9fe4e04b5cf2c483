import { domainName } from '@copal/shared/wire/inference-fields.ts'
import { functionWords } from './function-words.ts'

const TERMS = 6
const NAME_TERMS = 2
/** Characters of a text whose words are counted. */
const MAX_CHARACTERS = 4000

/** A cluster's suggested name and the terms that it is made of. */
export interface ClusterName {
  /** A valid domain name, different from the others and from those that are taken. */
  name: string
  /** Words that more of its texts contain than of the others, the most distinctive first. */
  terms: string[]
}

/**
 * Names groups of texts by the words that many of a group's texts contain and few of the others. Function words are left out.
 *
 * @param groups texts by group
 * @param others texts of no group, which count as others
 * @param taken names that must not be suggested
 */
export function nameClusters(
  groups: readonly (readonly string[])[],
  others: readonly string[],
  taken: Iterable<string>,
): ClusterName[] {
  const frequencies = [...groups, others].map((texts) => documentFrequencies(texts))
  const all = groups.reduce((sum, { length }) => sum + length, others.length)
  const used = new Set(taken)
  return groups.map((texts, group) => {
    const own = frequencies[group]!
    const rest = all - texts.length
    const ignored = functionWords(own)
    const scored = [...own]
      .filter(([term, count]) => count >= 2 && !ignored.has(term))
      .map(([term, count]) => {
        const inside = count / texts.length
        const outside = frequencies.reduce(
          (sum, one, at) => sum + (at === group ? 0 : (one.get(term) ?? 0)),
          0,
        )
        return { term, score: inside * Math.log((inside + 0.01) / (outside / Math.max(1, rest) + 0.01)) }
      })
      .filter(({ score }) => score > 0)
      .toSorted((a, b) => b.score - a.score || (a.term < b.term ? -1 : 1))
    const terms = scored.slice(0, TERMS).map(({ term }) => term)
    const name = uniqueName(nameTerms(terms).join('-'), used)
    used.add(name)
    return { name, terms }
  })
}

/** In how many of the texts each word stands. */
function documentFrequencies(texts: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const text of texts) for (const word of wordsOf(text)) counts.set(word, (counts.get(word) ?? 0) + 1)
  return counts
}

/** The words of a text that may stand in a domain's name: Latin letters and digits, without accents. */
function wordsOf(text: string): Set<string> {
  const plain = text.slice(0, MAX_CHARACTERS).normalize('NFKD').replaceAll(/\p{M}/gu, '').toLowerCase()
  return new Set(plain.match(/(?<![\p{L}\p{N}])[a-z][a-z0-9]{2,23}(?![\p{L}\p{N}])/gu))
}

/** The first terms that are not forms of each other, as `token` and `tokens` are. */
function nameTerms(terms: readonly string[]): string[] {
  const chosen: string[] = []
  for (const term of terms)
    if (chosen.length < NAME_TERMS && !chosen.some((one) => one.startsWith(term) || term.startsWith(one)))
      chosen.push(term)
  return chosen
}

function uniqueName(wanted: string, used: ReadonlySet<string>): string {
  const base = domainName.safeParse(wanted).success ? wanted : 'domain'
  let name = base
  for (let number = 2; used.has(name); number++) name = `${base}-${number}`
  return name
}
