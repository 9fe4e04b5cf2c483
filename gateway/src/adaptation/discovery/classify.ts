import type { Classification, DomainClassifier, LinearMachine, UnlabelledText } from './classifier.ts'
import { GRAM_BUCKETS, gramVector } from './gram-vector.ts'

/** Classifies a text: the sum of both machines' log-probabilities decides, or that of the n-grams alone. */
export function classify(
  classifier: DomainClassifier,
  { text, embedding, tokens }: UnlabelledText,
): Classification {
  const { domains, grams, thresholds } = classifier
  const outputs = [gramOutputs(grams, text)]
  const sharpness = [grams.sharpness]
  const dense = classifier.dense?.mean.length === embedding.length ? classifier.dense : null
  if (dense) {
    outputs.push(denseOutputs(dense, embedding))
    sharpness.push(dense.sharpness)
  }
  const logits = domains.map((_, c) =>
    outputs.reduce((sum, output, machine) => sum + output[c]! * sharpness[machine]!, 0),
  )
  const largest = Math.max(...logits)
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)
  const ranked = logits
    .map((logit, c) => ({ domain: domains[c]!, probability: Math.exp(logit - largest) / total }))
    .toSorted((a, b) => b.probability - a.probability)
  const [first, second] = ranked
  if (!first) return { rejected: 'unknown', nearest: null }
  if (tokens < classifier.minTokens) return { rejected: 'too_short', nearest: first.domain }
  const best = Math.max(
    ...domains.map((_, c) => outputs.reduce((sum, output) => sum + output[c]!, 0) / outputs.length),
  )
  if (best < (dense ? thresholds.both : thresholds.grams))
    return { rejected: 'unknown', nearest: first.domain }
  return { ...first, margin: first.probability - (second?.probability ?? 0) }
}

function gramOutputs({ weights, bias }: LinearMachine, text: string): number[] {
  const { indices, values } = gramVector(text)
  return Array.from(bias, (start, c) => {
    let sum = start
    for (let at = 0; at < indices.length; at++) sum += weights[c * GRAM_BUCKETS + indices[at]!]! * values[at]!
    return sum
  })
}

function denseOutputs(
  { weights, bias, mean, scale }: NonNullable<DomainClassifier['dense']>,
  embedding: readonly number[],
): number[] {
  const size = mean.length
  return Array.from(bias, (start, c) => {
    let sum = start
    for (let d = 0; d < size; d++) sum += weights[c * size + d]! * (embedding[d]! - mean[d]!) * scale[d]!
    return sum
  })
}
