/** Converts a mean negative log-likelihood, nats a token, to perplexity. */
export function perplexity(nllMean: number): number {
  return Math.exp(nllMean)
}

/** Returns the mean negative log-likelihood, nats a token, of a sum over `tokens` tokens; NaN when there are none. */
export function meanNll(nllSum: number, tokens: number): number {
  return tokens > 0 ? nllSum / tokens : Number.NaN
}
