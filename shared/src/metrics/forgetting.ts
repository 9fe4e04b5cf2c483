/**
 * The R matrix of one run: `perplexity[stage][domain]` on a domain's held-out text after each stage, null where it was
 * not measured. `learnedAt[domain]` is the stage that first calibrated on the domain, null where none did.
 */
export interface RunHistory {
  perplexity: readonly (readonly (number | null)[])[]
  learnedAt: readonly (number | null)[]
}

/** Mean and maximum over domains of `R_Ni − R_ii`, in perplexity; positive is forgetting. */
export interface BackwardTransfer {
  mean: number
  max: number
}

/**
 * Computes backward transfer as COPAL reports it (Malla et al. 2024, a-bwt and m-bwt): for each domain learned before
 * the last stage, its perplexity after the last stage minus that after the stage that learned it.
 *
 * @returns null when no domain was learned before the last stage, or none of those was measured at both stages
 */
export function backwardTransfer({ perplexity, learnedAt }: RunHistory): BackwardTransfer | null {
  const last = perplexity.length - 1
  const losses: number[] = []
  for (const [domain, stage] of learnedAt.entries()) {
    if (stage === null || stage >= last) continue
    const learned = perplexity[stage]?.[domain] ?? null
    const final = perplexity[last]?.[domain] ?? null
    if (learned !== null && final !== null) losses.push(final - learned)
  }
  if (losses.length === 0) return null
  return { mean: losses.reduce((sum, loss) => sum + loss, 0) / losses.length, max: Math.max(...losses) }
}
