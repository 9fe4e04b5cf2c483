/** A text with its mean negative log-likelihood under the dense weights. */
export interface DescribedText {
  keyId: string
  /** Nats a token. */
  nll: number
}

/** The losses between which a domain's texts are ordinary. */
export interface OrdinaryLosses {
  low: number
  high: number
}

/** With fewer described texts a domain has no ordinary loss yet. */
const MIN_TEXTS = 20
/** From this number of keys on, the weight of each is limited, so that one cannot make its texts the ordinary ones. */
const MIN_KEYS = 3
/** The deviation that corresponds to the median of absolute deviations, for a normal distribution. */
const DEVIATION_PER_MAD = 1.4826
/** Least deviation, nats: texts of a template differ by less, and an ordinary text among them is no outlier. */
const MIN_DEVIATION = 0.25

/**
 * Returns the losses within some robust deviations of the median of a domain's texts; undefined while too few are described.
 *
 * A key weighs as many texts as it has, but at most as the median key: neither one key with many texts nor many keys with few
 * texts each make theirs the ordinary ones, as long as most keys are honest.
 */
export function ordinaryLosses(
  texts: readonly DescribedText[],
  deviations: number,
): OrdinaryLosses | undefined {
  if (texts.length < MIN_TEXTS) return undefined
  const counts = countByKey(texts)
  const most = counts.size < MIN_KEYS ? Infinity : medianOf([...counts.values()])
  const weighted = texts.map(({ keyId, nll }) => ({
    value: nll,
    weight: Math.min(1, most / (counts.get(keyId) ?? 1)),
  }))
  const median = weightedMedian(weighted)
  const spread = weightedMedian(
    weighted.map(({ value, weight }) => ({ value: Math.abs(value - median), weight })),
  )
  const deviation = Math.max(spread * DEVIATION_PER_MAD, MIN_DEVIATION)
  return { low: median - deviations * deviation, high: median + deviations * deviation }
}

function countByKey(texts: readonly DescribedText[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { keyId } of texts) counts.set(keyId, (counts.get(keyId) ?? 0) + 1)
  return counts
}

/** Returns the lower median. */
function medianOf(values: readonly number[]): number {
  return weightedMedian(values.map((value) => ({ value, weight: 1 })))
}

function weightedMedian(values: readonly { value: number; weight: number }[]): number {
  const half = values.reduce((sum, { weight }) => sum + weight, 0) / 2
  let sum = 0
  for (const { value, weight } of values.toSorted((one, other) => one.value - other.value)) {
    sum += weight
    if (sum >= half) return value
  }
  return 0
}
