import type { Classification, DomainClassifier, LinearMachine, UnlabelledText } from './classifier.ts'
import { GRAM_BUCKETS, gramVector, weigh } from './gram-vector.ts'
import { noveltyOf } from './novelty.ts'

/** Classifies a text: the sum of both machines' log-probabilities decides, or that of the n-grams alone. */
export function classify(
  classifier: DomainClassifier,
  { text, embedding, tokens }: UnlabelledText,
): Classification {
  const { domains, grams, novelty, gramThreshold } = classifier
  const outputs = [gramOutputs(grams, text)]
  const sharpness = [grams.sharpness]
  const dense = classifier.dense?.mean.length === embedding.length ? classifier.dense : null
  const row = dense && Float32Array.from(embedding, (value, d) => (value - dense.mean[d]!) * dense.scale[d]!)
  if (dense && row) {
    outputs.push(denseOutputs(dense, row))
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
  const isUnknown =
    row && novelty
      ? noveltyOf(novelty, row) > novelty.threshold
      : Math.max(...(outputs[0] ?? [])) < gramThreshold
  if (isUnknown) return { rejected: 'unknown', nearest: first.domain }
  return { ...first, margin: first.probability - (second?.probability ?? 0) }
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
