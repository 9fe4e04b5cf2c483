import { createHash } from 'node:crypto'
import { distinct, patternRulesLabel } from '../results/labels.ts'
import type { LabDomain, LabResults } from '../results/lab-results.ts'

/** A setting, model, machine or text that differs between two results. */
export interface InputDifference {
  what: string
  a: string
  b: string
}

/** A domain of both results whose perplexities cannot be compared. */
export interface IncomparableDomain {
  domain: string
  reason: string
}

const ABSENT = 'none'
/** Value of results of older versions that lack it, so that it is unknown whether it differs. */
const UNKNOWN = 'not recorded'

/** Returns the differences between the inputs of two results, in reading order; hashes have 12 digits. */
export function inputDifferences(a: LabResults, b: LabResults): InputDifference[] {
  const rows: [what: string, of: (results: LabResults) => string | number | null][] = [
    ['copal version', ({ version }) => version],
    ['model', ({ model }) => model.id],
    ['dense weights', ({ model }) => short(model.baseSha256)],
    ['calibration samples', ({ settings }) => settings.samples],
    ['tokens per sample', ({ settings }) => settings.length],
    ['seed', ({ settings }) => settings.seed],
    ['propagation', ({ settings }) => settings.propagation],
    ['single linears', ({ settings }) => patternRulesLabel(settings) ?? ABSENT],
    ['orders', describeOrders],
    ['layer sensitivity', (results) => describeSensitivity(results, 'layers', 'sha256')],
    ['layer sensitivity: text', (results) => describeSensitivity(results, 'layers', 'textSha256')],
    ['row sensitivity', (results) => describeSensitivity(results, 'rows', 'sha256')],
    ['row sensitivity: text', (results) => describeSensitivity(results, 'rows', 'textSha256')],
    ['window tokens', ({ settings }) => settings.windowTokens],
    ['evaluation tokens', ({ settings }) => settings.evaluationTokens ?? 'all'],
    ['processor', ({ machine }) => machine.cpu],
    ['cores', ({ machine }) => machine.cores],
    ['onnxruntime', ({ machine }) => machine.onnxruntime],
    ...domainNames(a, b).flatMap((name): [string, (results: LabResults) => string][] => [
      [`${name}: calibration text`, (results) => short(domainOf(results, name)?.calibration?.sha256)],
      [`${name}: evaluation text`, (results) => short(domainOf(results, name)?.evaluation.sha256)],
    ]),
  ]
  return rows.flatMap(([what, of]) => {
    const values = { a: String(of(a)), b: String(of(b)) }
    return values.a === values.b && values.a !== UNKNOWN ? [] : [{ what, ...values }]
  })
}

/**
 * Returns the domains of both results that were evaluated on the same windows of the same text, and why the others
 * cannot be compared. A model with another tokenizer has other windows. Results without a hash of their tokens are
 * compared by the number of tokens.
 */
export function comparableDomains(
  a: LabResults,
  b: LabResults,
): { comparable: string[]; refused: IncomparableDomain[] } {
  const comparable: string[] = []
  const refused: IncomparableDomain[] = []
  for (const { name } of a.domains) {
    const reason = incomparableReason(a, b, name)
    if (reason === undefined) comparable.push(name)
    else if (reason !== null) refused.push({ domain: name, reason })
  }
  return { comparable, refused }
}

/** Returns undefined for a comparable domain, and null for one that is not in both results. */
function incomparableReason(a: LabResults, b: LabResults, name: string): string | null | undefined {
  const [left, right] = [domainOf(a, name)?.evaluation, domainOf(b, name)?.evaluation]
  if (!left || !right) return null
  if (left.sha256 !== right.sha256)
    return `evaluation texts differ (${short(left.sha256)} and ${short(right.sha256)})`
  if (a.settings.windowTokens !== b.settings.windowTokens)
    return `windows of ${a.settings.windowTokens} and ${b.settings.windowTokens} tokens`
  if (left.windows !== right.windows || left.tokens !== right.tokens)
    return `${left.tokens} tokens in ${left.windows} windows and ${right.tokens} in ${right.windows}`
  const [windowsA, windowsB] = [left.windowsSha256, right.windowsSha256]
  if (windowsA !== undefined && windowsB !== undefined && windowsA !== windowsB)
    return `the same text has different tokens (${short(windowsA)} and ${short(windowsB)}): the tokenizers differ`
  return undefined
}

/** Describes the orders that were run, by their number and a hash. */
function describeOrders({ permutations, runs }: LabResults): string {
  const chosenOrders = permutations ?? runs.flatMap(({ matrices }) => matrices.map(({ order }) => order))
  const orders = distinct(chosenOrders.map((order) => order.join(' → '))).toSorted()
  if (orders.length < 2) return orders[0] ?? ABSENT
  return `${orders.length} (${short(createHash('sha256').update(orders.join('\n')).digest('hex'))})`
}

/** Describes the sensitivity that methods use to distribute ratios. */
function describeSensitivity(
  { sensitivities, runs }: LabResults,
  of: 'layers' | 'rows',
  what: 'sha256' | 'textSha256',
): string {
  if (sensitivities) return short(sensitivities[of]?.[what])
  const suffix = of === 'layers' ? '+allocated' : '+rows'
  return runs.some(({ method }) => method.includes(suffix)) ? UNKNOWN : ABSENT
}

function domainNames(a: LabResults, b: LabResults): string[] {
  return [...new Set([...a.domains, ...b.domains].map(({ name }) => name))]
}

function domainOf({ domains }: LabResults, name: string): LabDomain | undefined {
  return domains.find((domain) => domain.name === name)
}

function short(sha256: string | undefined): string {
  return sha256?.slice(0, 12) ?? ABSENT
}
