import { meanNll } from '@copal/shared/metrics/perplexity.ts'
import type { DriftEntry, DriftReport } from '@copal/shared/wire/admin.ts'
import type { MeanLossRow } from '../../storage/db/queries/evaluation-queries.ts'
import type { HoldoutRow } from '../../storage/db/queries/holdout-queries.ts'
import type { PromotedMask } from '../../storage/db/queries/mask-queries.ts'
import type { DriftSum } from '../../storage/db/queries/usage-total-queries.ts'
import { cellsByDomain, forgettingOf, versionToShow } from './forgetting.ts'

/** The records of one model that {@link driftReport} reads. */
export interface DriftRecord {
  model: string
  activeVersion: number
  traffic: readonly DriftSum[]
  /** In the order of promotion. */
  promoted: readonly PromotedMask[]
  evaluations: readonly MeanLossRow[]
  /** Every version of every holdout. */
  holdouts: readonly HoldoutRow[]
}

/** Reports the cost of pruning on traffic, and the R matrix with what was forgotten. */
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

/**
 * Builds the R matrix. Its domains are in the order in which masks learned them, then the rest by name. All cells of a column
 * are measured on one version of the domain's holdout, because losses on different texts cannot be compared.
 */
function rMatrix({ activeVersion, promoted, evaluations, holdouts }: DriftRecord): DriftReport['r'] {
  const stages = [
    { mask_version: 0, calibrated_domains: [] as string[] },
    ...promoted.map(({ mask, updateDomains }) => ({
      mask_version: mask.version,
      calibrated_domains: updateDomains.filter((domain) => mask.domains.includes(domain)),
    })),
  ]
  const cells = cellsByDomain(evaluations, holdouts)
  const learned = stages.flatMap((stage) => stage.calibrated_domains)
  const domains = [
    ...new Set([...learned.filter((domain) => cells.has(domain)), ...[...cells.keys()].sort()]),
  ]
  const shown = domains.map((domain) => versionToShow(cells.get(domain) ?? [], stages, activeVersion))
  const served = stages.slice(0, stages.findIndex((stage) => stage.mask_version === activeVersion) + 1)
  const forgetting = domains.flatMap((domain) => forgettingOf(domain, cells.get(domain) ?? [], served) ?? [])
  return {
    domains,
    holdouts: domains.map((domain, column) => ({
      domain,
      version: shown[column]?.version ?? null,
      sha256: shown[column]?.sha256 ?? '',
    })),
    stages,
    perplexity: stages.map((stage) =>
      shown.map((column) => column?.perplexity.get(stage.mask_version) ?? null),
    ),
    backward_transfer: transferOf(forgetting),
    forgetting,
  }
}

/** Computes backward transfer up to the active mask, from the first mask that learned each domain. */
function transferOf(forgetting: DriftReport['r']['forgetting']): DriftReport['r']['backward_transfer'] {
  const differences = forgetting.flatMap(({ first }) => first?.difference ?? [])
  if (differences.length === 0) return null
  const sum = differences.reduce((total, difference) => total + difference, 0)
  return { mean: sum / differences.length, max: Math.max(...differences) }
}
