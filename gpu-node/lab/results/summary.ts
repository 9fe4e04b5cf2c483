import { backwardTransfer } from '@copal/shared/metrics/forgetting.ts'
import { METHOD_NAMES, parseMethod } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import type { LabRun, LabSummary, StageMatrix } from './lab-results.ts'

/**
 * Computes the paper's figures of one method over its permutations (Malla et al. 2024, a-bwt, m-bwt, a-ppl, m-ppl), all
 * in perplexity.
 *
 * Backward transfer: mean and maximum of `R_Ni − R_ii` over permutations and the N − 1 earlier datasets. Perplexity:
 * mean and maximum over all (permutation, stage j ≥ position i). Cells that were not measured count in neither. Weight
 * stasis: the mask changed at no stage of any permutation.
 *
 * @returns null if there is no permutation
 */
export function summarise(matrices: readonly StageMatrix[]): LabSummary | null {
  if (matrices.length === 0) return null
  const losses = matrices.flatMap(forgettingOf)
  const cells = matrices.flatMap(({ R }) => R.flatMap((row, stage) => row.slice(0, stage + 1)))
  const perplexities = cells.filter((cell) => cell !== null)
  const churn = matrices.flatMap((matrix) => matrix.churn)
  return {
    aBwt: mean(losses),
    mBwt: largest(losses),
    aPpl: mean(perplexities),
    mPpl: largest(perplexities),
    weightStasis: churn.length > 0 && churn.every((changed) => changed === 0),
  }
}

/** Returns the means, over the permutations of a method, of the maximum of each: as the paper reports LLaMA-7B. */
export function meansOfMaxima(matrices: readonly StageMatrix[]): Pick<LabSummary, 'mBwt' | 'mPpl'> {
  const each = matrices.map((matrix) => summarise([matrix]))
  return {
    mBwt: mean(each.flatMap((summary) => summary?.mBwt ?? [])),
    mPpl: mean(each.flatMap((summary) => summary?.mPpl ?? [])),
  }
}

/**
 * Tells whether the model never changed from stage to stage, which the paper prints as WS: no mask bit changed, and the
 * masks are one file or the method does not change surviving weights. `magnitude+reconstruct` has one mask but forgets.
 */
export function hasWeightStasis({ method, stages, summary }: LabRun): boolean {
  if (summary?.weightStasis !== true) return false
  const isOneFile = new Set(stages.map(({ maskSha256 }) => maskSha256)).size === 1
  // Results of a newer copal may have unknown methods.
  return isOneFile || (METHOD_NAMES.includes(method) && !parseMethod(method).changesWeights)
}

/** Allowed difference, relative to the perplexities, between machines or versions that sum in another order. */
const ROUNDING_TOLERANCE = 1e-9

const FIGURES = { aBwt: 'a-bwt', mBwt: 'm-bwt', aPpl: 'a-ppl', mPpl: 'm-ppl' } as const

/**
 * Describes the first contradiction between a summary and its matrices; undefined if there is none. An unfinished run
 * has no summary.
 */
export function findSummaryError(
  summary: LabSummary | null,
  matrices: readonly StageMatrix[],
): string | undefined {
  if (summary === null) return undefined
  const expected = summarise(matrices)
  if (expected === null) return 'there is a summary without an R matrix'
  for (const [figure, label] of Object.entries(FIGURES) as [keyof typeof FIGURES, string][]) {
    const [stated, follows] = [summary[figure], expected[figure]]
    const isSame =
      stated === null || follows === null
        ? stated === follows
        : Math.abs(stated - follows) <= ROUNDING_TOLERANCE * (expected.mPpl ?? 0)
    if (!isSame) return `summary says ${label} ${stated}, but its R matrices give ${follows}`
  }
  if (summary.weightStasis === expected.weightStasis) return undefined
  return `summary says ${summary.weightStasis ? '' : 'no '}weight stasis, but by its churn there is ${expected.weightStasis ? 'some' : 'none'}`
}

/** `R_Ni − R_ii` of each dataset before the last of one permutation, if both were measured. */
function forgettingOf({ order, R }: StageMatrix): number[] {
  return order.flatMap((_, dataset) => {
    const learnedAt = order.map((__, stage) => (stage === dataset ? stage : null))
    return backwardTransfer({ perplexity: R, learnedAt })?.mean ?? []
  })
}

function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length
}

function largest(values: readonly number[]): number | null {
  // All orders of seven domains have more cells than a call has arguments.
  return values.length === 0 ? null : values.reduce((most, value) => Math.max(most, value))
}
