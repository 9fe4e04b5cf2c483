import type { Classification, DomainClassifier, LinearMachine, UnlabelledText } from './classifier.ts'
import { GRAM_BUCKETS, gramVector, weigh } from './gram-vector.ts'
import { noveltyOf } from './novelty.ts'
import { backgroundLead, combineWithLead } from './background-lead.ts'

/** Classifies a text: the sum of both machines' log-probabilities decides, or that of the n-grams alone. */
export function classify(classifier: DomainClassifier, text: UnlabelledText): Classification {
  const { domains } = classifier
  const outputs = outputsOf(classifier, text)
  const ofDomains = outputs.logits.slice(0, domains.length)
  const largest = Math.max(...ofDomains)
  const total = ofDomains.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)
  const [first] = ofDomains
    .map((logit, c) => ({ domain: domains[c]!, probability: Math.exp(logit - largest) / total }))
    .toSorted((a, b) => b.probability - a.probability)
  if (!first) return { rejected: 'unknown', nearest: null }
  if (text.tokens < classifier.minTokens) return { rejected: 'too_short', nearest: first.domain }
  if (isUnknown(classifier, outputs)) return { rejected: 'unknown', nearest: first.domain }
  return first
}

/**
 * Returns whether a text is well within the domains: nearer to examples that were left out of the training than to the
 * threshold above which a text is unknown. False where nothing is known of its embedding.
 */
export function isWellKnown(
  classifier: DomainClassifier,
  text: Pick<UnlabelledText, 'text' | 'embedding'>,
): boolean {
  const unlike = unlikeness(classifier, outputsOf(classifier, text))
  return unlike !== null && unlike.threshold > 0 && unlike.value <= unlike.threshold / 2
}

function isUnknown(classifier: DomainClassifier, outputs: Outputs): boolean {
  const unlike = unlikeness(classifier, outputs)
  return unlike ? unlike.value > unlike.threshold : -outputs.gramLead < classifier.gramThreshold
}

/** How unlike the domains a text with an embedding is, of which examples that were left out have 0 in the mean. */
function unlikeness(
  { background, novelty }: DomainClassifier,
  { logits, row }: Outputs,
): { value: number; threshold: number } | null {
  if (!row || !novelty) return null
  const value = noveltyOf(novelty, row)
  if (!background) return { value, threshold: novelty.threshold }
  const { lead, threshold } = background
  return { value: combineWithLead(lead, backgroundLead(logits), value), threshold }
}

/** The outputs of both machines for a text. */
interface Outputs {
  /** The log-probabilities of the classes, not normalised. */
  logits: number[]
  /** The standardised embedding; null if it has none of the classifier's size. */
  row: Float32Array | null
  /** The lead of the background by the n-grams; without a background, the best output with its sign changed. */
  gramLead: number
}

function outputsOf(
  { domains, background, grams, ...classifier }: DomainClassifier,
  { text, embedding }: Pick<UnlabelledText, 'text' | 'embedding'>,
): Outputs {
  const ofGrams = gramOutputs(grams, text)
  const logits = ofGrams.map((output) => output * grams.sharpness)
  const dense = classifier.dense?.mean.length === embedding.length ? classifier.dense : null
  const row = dense && Float32Array.from(embedding, (value, d) => (value - dense.mean[d]!) * dense.scale[d]!)
  if (dense && row)
    for (const [c, output] of denseOutputs(dense, row).entries()) logits[c]! += output * dense.sharpness
  const gramLead = background ? backgroundLead(ofGrams) : -Math.max(...ofGrams.slice(0, domains.length))
  return { logits, row, gramLead }
}

function gramOutputs(
  { weights, bias, inverseFrequencies }: DomainClassifier['grams'],
  text: string,
): number[] {
  const { indices, values } = weigh(gramVector(text), inverseFrequencies)
  return Array.from(bias, (start, c) => {
    let sum = start
    for (let at = 0; at < indices.length; at++) sum += weights[c * GRAM_BUCKETS + indices[at]!]! * values[at]!
    return sum
  })
}

function denseOutputs({ weights, bias }: LinearMachine, row: Float32Array): number[] {
  const size = row.length
  return Array.from(bias, (start, c) => {
    let sum = start
    for (let d = 0; d < size; d++) sum += weights[c * size + d]! * row[d]!
    return sum
  })
}
