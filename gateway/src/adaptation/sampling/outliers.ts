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
/** From this number of keys on, each counts alike, so that one cannot make its texts the ordinary ones. */
const MIN_KEYS = 3
/** The deviation that corresponds to the median of absolute deviations, for a normal distribution. */
const DEVIATION_PER_MAD = 1.4826
/** Least deviation, nats: texts of a template differ by less, and an ordinary text among them is no outlier. */
const MIN_DEVIATION = 0.25

/**
 * Returns the losses within some robust deviations of the median of a domain's texts; undefined while too few are described.
 */
export function ordinaryLosses(
  texts: readonly DescribedText[],
  deviations: number,
): OrdinaryLosses | undefined {
  if (texts.length < MIN_TEXTS) return undefined
  const keys = Map.groupBy(texts, ({ keyId }) => keyId)
  const weighted = texts.map(({ keyId, nll }) => ({
    value: nll,
    weight: keys.size < MIN_KEYS ? 1 : 1 / (keys.get(keyId)?.length ?? 1),
  }))
  const median = weightedMedian(weighted)
  const spread = weightedMedian(
    weighted.map(({ value, weight }) => ({ value: Math.abs(value - median), weight })),
  )
  const deviation = Math.max(spread * DEVIATION_PER_MAD, MIN_DEVIATION)
  return { low: median - deviations * deviation, high: median + deviations * deviation }
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
