import type { Background, DomainClassifier, LabelledText, LinearMachine } from './classifier.ts'
import { GRAM_BUCKETS, gramVector, inverseFrequencies, weigh, type SparseVector } from './gram-vector.ts'
import { backgroundLead, combineWithLead } from './background-lead.ts'
import { fitRidge, type Ridge } from './ridge.ts'
import { fitNovelty, meanAndDeviation, thresholdOf } from './novelty.ts'
import { standardise } from './standardise.ts'

/**
 * Most examples that are trained on beside the background, drawn evenly from the domains. They take the isolate's time, which grows
 * with the cube of both.
 */
export const MAX_EXAMPLES = 480
/** Share of the examples' own kinds that may be rejected as unknown. */
const FALSE_REJECTIONS = 0.03
/** Texts of fewer tokens are not classified: kinds of text are not told apart by 30, and mostly by 60. */
export const MIN_TOKENS = 48
/** Most examples that a text is compared with to tell whether it is like none, and most values of their embeddings. */
const NOVELTY_EXAMPLES = 200
const NOVELTY_VALUES = NOVELTY_EXAMPLES * 4096
const DENSE_PENALTY = 0.3
/** With a background there is more to fit. */
const DENSE_PENALTY_WITH_BACKGROUND = 1
const GRAM_PENALTY = 0.1

/**
 * Trains a classifier. The same examples in the same order give the same classifier. Domains need two examples or more; more
 * domains than `maxDomains` of their embeddings' size cannot be stored.
 *
 * @param unlabelled used if the examples have embeddings, and those of the background are of the same size
 */
export function trainClassifier(
  examples: readonly LabelledText[],
  unlabelled?: Background,
): DomainClassifier {
  const chosen = drawEvenly(examples)
  const domains = [...new Set(chosen.map(({ domain }) => domain))].toSorted()
  const size = embeddingSize(chosen)
  const background = size > 0 && unlabelled && embeddingSize(unlabelled.texts) === size ? unlabelled : null
  const all = [...chosen, ...(background?.texts ?? [])]
  const classes = domains.length + (background ? 1 : 0)
  const labels = chosen.map(({ domain }) => domains.indexOf(domain))
  const allLabels = [...labels, ...(background?.texts ?? []).map(() => domains.length)]
  const counted = all.map(({ text }) => gramVector(text))
  const frequencies = inverseFrequencies(counted)
  const vectors = counted.map((vector) => weigh(vector, frequencies))
  const gramFit = fitRidge(gramKernel(vectors), allLabels, classes, GRAM_PENALTY)
  const grams = {
    inverseFrequencies: frequencies,
    ...gramWeights(vectors, gramFit, classes),
    sharpness: sharpness(gramFit, allLabels, classes),
  }
  const common = { domains, minTokens: MIN_TOKENS, grams }
  const ofGrams = labels.map((_, i) => gramFit.leftOut.subarray(i * classes, (i + 1) * classes))
  const certainty = ofGrams.map((outputs) => (background ? -backgroundLead(outputs) : Math.max(...outputs)))
  const gramThreshold = quantile(certainty, FALSE_REJECTIONS)
  if (size === 0) return { ...common, background: null, dense: null, novelty: null, gramThreshold }
  const { rows, mean, scale } = standardise(
    all.map(({ embedding }) => embedding),
    size,
  )
  const penalty = background ? DENSE_PENALTY_WITH_BACKGROUND : DENSE_PENALTY
  const denseFit = fitRidge(denseKernel(rows, size), allLabels, classes, penalty)
  const dense = {
    ...denseWeights(rows, size, denseFit, classes),
    sharpness: sharpness(denseFit, allLabels, classes),
    mean,
    scale,
  }
  const compared = evenIndices(chosen.length, comparedExamples(size))
  const { novelty, leftOut } = fitNovelty(
    Float32Array.from(compared.flatMap((index) => [...rows.subarray(index * size, (index + 1) * size)])),
    size,
    compared.map((index) => labels[index]!),
    FALSE_REJECTIONS,
  )
  const withDense = { ...common, dense, novelty, gramThreshold }
  if (!background) return { ...withDense, background: null }
  const leads = compared.map((index) =>
    backgroundLead(
      ofGrams[index]!.map(
        (output, c) => output * grams.sharpness + denseFit.leftOut[index * classes + c]! * dense.sharpness,
      ),
    ),
  )
  const lead = meanAndDeviation(leads)
  const unlike = leads.map((value, at) => combineWithLead(lead, value, leftOut[at]!))
  const threshold = thresholdOf(unlike, FALSE_REJECTIONS)
  return { ...withDense, background: { version: background.version, lead, threshold } }
}

/** Returns the dimensions of the embeddings of texts; 0 if some have none, or they are of several sizes. */
function embeddingSize(texts: readonly Pick<LabelledText, 'embedding'>[]): number {
  const size = texts[0]?.embedding.length ?? 0
  return texts.every(({ embedding }) => embedding.length === size) ? size : 0
}

/** Returns the most examples that a text is compared with, for embeddings of a size: time and size of a stored classifier. */
export function comparedExamples(size: number): number {
  return Math.min(NOVELTY_EXAMPLES, Math.floor(NOVELTY_VALUES / size))
}

/** Indices below `length`, evenly spread, at most `max`. */
function evenIndices(length: number, max: number): number[] {
  const step = Math.max(1, length / max)
  return Array.from({ length: Math.min(length, max) }, (_, index) => Math.floor(index * step))
}

/** Takes examples from the domains in turn, evenly spread over each, until there are enough. */
function drawEvenly(examples: readonly LabelledText[]): LabelledText[] {
  const byDomain = Map.groupBy(examples, ({ domain }) => domain)
  const share = Math.max(2, Math.floor(MAX_EXAMPLES / Math.max(1, byDomain.size)))
  return [...byDomain.values()].flatMap((all) => {
    const step = Math.max(1, all.length / share)
    return Array.from({ length: Math.min(all.length, share) }, (_, index) => all[Math.floor(index * step)]!)
  })
}

/** Inner products of texts, plus 1 for the bias. */
function gramKernel(vectors: readonly SparseVector[]): Float64Array {
  const n = vectors.length
  const kernel = new Float64Array(n * n)
  const spread = new Float32Array(GRAM_BUCKETS)
  for (const [i, { indices, values }] of vectors.entries()) {
    for (const [at, bucket] of indices.entries()) spread[bucket] = values[at]!
    for (let j = 0; j <= i; j++) {
      const other = vectors[j]!
      let sum = 1
      for (let at = 0; at < other.indices.length; at++) sum += spread[other.indices[at]!]! * other.values[at]!
      kernel[i * n + j] = sum
      kernel[j * n + i] = sum
    }
    for (const bucket of indices) spread[bucket] = 0
  }
  return kernel
}

function gramWeights(
  vectors: readonly SparseVector[],
  { dual }: Ridge,
  classes: number,
): Pick<LinearMachine, 'weights' | 'bias'> {
  const weights = new Float32Array(classes * GRAM_BUCKETS)
  const bias = new Float32Array(classes)
  for (const [i, { indices, values }] of vectors.entries()) {
    for (let c = 0; c < classes; c++) {
      const factor = dual[i * classes + c]!
      bias[c]! += factor
      const row = c * GRAM_BUCKETS
      for (let at = 0; at < indices.length; at++) weights[row + indices[at]!]! += factor * values[at]!
    }
  }
  return { weights, bias }
}

/** Inner products by dimension, plus 1 for the bias. */
function denseKernel(rows: Float32Array, size: number): Float64Array {
  const n = rows.length / size
  const kernel = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0
      for (let d = 0; d < size; d++) sum += rows[i * size + d]! * rows[j * size + d]!
      kernel[i * n + j] = sum / size + 1
      kernel[j * n + i] = kernel[i * n + j]!
    }
  }
  return kernel
}

function denseWeights(
  rows: Float32Array,
  size: number,
  { dual }: Ridge,
  classes: number,
): Pick<LinearMachine, 'weights' | 'bias'> {
  const n = rows.length / size
  const weights = new Float32Array(classes * size)
  const bias = new Float32Array(classes)
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < classes; c++) {
      const factor = dual[i * classes + c]!
      bias[c]! += factor
      for (let d = 0; d < size; d++) weights[c * size + d]! += (factor * rows[i * size + d]!) / size
    }
  }
  return { weights, bias }
}

/** Finds the factor under which the left-out outputs, as logits, are most likely. */
function sharpness({ leftOut }: Ridge, labels: readonly number[], classes: number): number {
  let best = 1
  let least = Infinity
  for (let factor = 1; factor <= 64; factor *= Math.SQRT2) {
    let loss = 0
    for (const [i, label] of labels.entries()) {
      let sum = 0
      for (let c = 0; c < classes; c++) sum += Math.exp(factor * leftOut[i * classes + c]!)
      loss += Math.log(sum) - factor * leftOut[i * classes + label]!
    }
    if (loss < least) [least, best] = [loss, factor]
  }
  return best
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(share * sorted.length)] ?? -Infinity
}
