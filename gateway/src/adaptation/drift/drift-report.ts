import { backwardTransfer } from '@copal/shared/metrics/forgetting.ts'
import { meanNll, perplexity } from '@copal/shared/metrics/perplexity.ts'
import type { DriftEntry, DriftReport } from '@copal/shared/wire/admin.ts'
import type { EvaluationRow } from '../../storage/db/queries/evaluation-queries.ts'
import type { PromotedMask } from '../../storage/db/queries/mask-queries.ts'
import type { DriftSum } from '../../storage/db/queries/usage-total-queries.ts'

/** The records of one model that {@link driftReport} reads. */
export interface DriftRecord {
  model: string
  activeVersion: number
  traffic: readonly DriftSum[]
  /** In the order of promotion. */
  promoted: readonly PromotedMask[]
  evaluations: readonly EvaluationRow[]
}

/** Reports the cost of pruning on traffic, and the R matrix with its backward transfer. */
export function driftReport(record: DriftRecord): DriftReport {
  const { model, activeVersion, traffic } = record
  return { model, active_version: activeVersion, traffic: traffic.map(trafficEntry), r: rMatrix(record) }
}

function trafficEntry({ domain, maskVersion, requests, tokens, nllMasked, nllDense }: DriftSum): DriftEntry {
  const masked = meanNll(nllMasked, tokens)
  const dense = meanNll(nllDense, tokens)
  return {
    domain,
    mask_version: maskVersion,
    requests,
    tokens,
    nll_masked: masked,
    nll_dense: dense,
    gap: masked - dense,
  }
}

/** Builds the R matrix. Its domains are in the order in which masks learned them, then the rest by name. */
function rMatrix({ activeVersion, promoted, evaluations }: DriftRecord): DriftReport['r'] {
  const stages = [
    { mask_version: 0, calibrated_domains: [] as string[] },
    ...promoted.map(({ mask, updateDomains }) => ({
      mask_version: mask.version,
      calibrated_domains: updateDomains.filter((domain) => mask.domains.includes(domain)),
    })),
  ]
  const evaluated = new Set(evaluations.map(({ domain }) => domain))
  const learned = stages.flatMap((stage) => stage.calibrated_domains)
  const domains = [
    ...new Set([...learned.filter((domain) => evaluated.has(domain)), ...[...evaluated].sort()]),
  ]
  const cells = new Map(evaluations.map((row) => [`${row.version} ${row.domain}`, perplexity(row.nllMean)]))
  const matrix = stages.map((stage) =>
    domains.map((domain) => cells.get(`${stage.mask_version} ${domain}`) ?? null),
  )
  return {
    domains,
    stages,
    perplexity: matrix,
    backward_transfer: forgetting(activeVersion, domains, stages, matrix),
  }
}

/** Computes backward transfer up to the active mask. A domain that was calibrated again counts as learned at the later stage. */
function forgetting(
  activeVersion: number,
  domains: readonly string[],
  stages: DriftReport['r']['stages'],
  matrix: readonly (readonly (number | null)[])[],
): DriftReport['r']['backward_transfer'] {
  const served = stages.slice(0, stages.findIndex((stage) => stage.mask_version === activeVersion) + 1)
  const learnedAt = domains.map((domain) => {
    const stage = served.findLastIndex(({ calibrated_domains: calibrated }) => calibrated.includes(domain))
    return stage < 0 ? null : stage
  })
  return backwardTransfer({ perplexity: matrix.slice(0, served.length), learnedAt })
}
