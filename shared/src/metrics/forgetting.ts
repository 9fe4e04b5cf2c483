/**
 * The R matrix of one run: `perplexity[stage][domain]` on a domain's held-out text after a stage, null where
 * it was not measured; and for each domain the stage that learned it, null where none did.
 */
export interface RunHistory {
  perplexity: readonly (readonly (number | null)[])[]
  learnedAt: readonly (number | null)[]
}

/** Mean and maximum of `R_Ni − R_ii`, in perplexity; positive is forgetting. */
export interface BackwardTransfer {
  mean: number
  max: number
}

/**
 * Backward transfer as COPAL reports it (Malla et al. 2024, a-bwt and m-bwt): how much worse each domain is
 * after the last stage than right after the stage that learned it, over the domains learned earlier.
 *
 * @returns null when no domain was learned before the last stage, or nothing was measured of those that were.
 */
export function backwardTransfer({ perplexity, learnedAt }: RunHistory): BackwardTransfer | null {
  const last = perplexity.length - 1
  const losses: number[] = []
  for (const [domain, stage] of learnedAt.entries()) {
    if (stage === null || stage >= last) continue
    const then = perplexity[stage]?.[domain] ?? null
    const now = perplexity[last]?.[domain] ?? null
    if (then !== null && now !== null) losses.push(now - then)
  }
  if (losses.length === 0) return null
  return { mean: losses.reduce((sum, loss) => sum + loss, 0) / losses.length, max: Math.max(...losses) }
}
