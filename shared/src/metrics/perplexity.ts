/** Perplexity of a mean negative log-likelihood in nats a token. */
export function perplexity(nllMean: number): number {
  return Math.exp(nllMean)
}

/** Mean negative log-likelihood, nats a token, of a sum over `tokens` tokens; NaN without tokens. */
export function meanNll(nllSum: number, tokens: number): number {
  return tokens > 0 ? nllSum / tokens : Number.NaN
}
