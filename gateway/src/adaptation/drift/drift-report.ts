import { meanNll } from '@copal/shared/metrics/perplexity.ts'
import type { DriftEntry, DriftReport } from '@copal/shared/wire/admin.ts'
import type { MeanLossRow } from '../../storage/db/queries/evaluation-queries.ts'
import type { HoldoutRow } from '../../storage/db/queries/holdout-queries.ts'
import type { PromotedMask } from '../../storage/db/queries/mask-queries.ts'
import type { DriftSum } from '../../storage/db/queries/usage-total-queries.ts'
import { cellsByDomain, forgettingOf, versionToShow, type HoldoutCells } from './forgetting.ts'

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

/** The domains of a page: at most `limit`, after a name. */
export interface DriftPage {
  limit: number
  after?: string | undefined
}

/** Masks of a report, the newest; each costs a row of the R matrix, and a row of traffic a domain. */
const MAX_MASKS = 100

/** Reports the cost of pruning on traffic, and the R matrix with what was forgotten, of the domains of a page. */
export function driftReport(record: DriftRecord, page: DriftPage = { limit: Infinity }): DriftReport {
  const { model, activeVersion, traffic } = record
  const cells = cellsByDomain(record.evaluations, record.holdouts)
  const names = [...new Set([...traffic.map(({ domain }) => domain), ...cells.keys()])].toSorted(byName)
  const left = page.after === undefined ? names : names.filter((name) => byName(name, page.after ?? '') > 0)
  const shown = left.slice(0, page.limit)
  const isShown = new Set(shown)
  return {
    model,
    active_version: activeVersion,
    traffic: newestMasks(
      traffic.filter(({ domain }) => isShown.has(domain)),
      activeVersion,
    ).map(trafficEntry),
    r: rMatrix(record, cells, isShown),
    next_after: shown.length < left.length ? (shown.at(-1) ?? null) : null,
  }
}

/** Compares names by their code units, as the order of pages must not depend on a language. */
function byName(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

/** Returns of each domain the newest masks, the active one and dense. */
function newestMasks(traffic: readonly DriftSum[], activeVersion: number): DriftSum[] {
  return [...Map.groupBy(traffic, ({ domain }) => domain).values()].flatMap((ofDomain) => {
    const versions = ofDomain.map(({ maskVersion }) => maskVersion).toSorted((a, b) => b - a)
    const oldest = versions[MAX_MASKS - 1] ?? 0
    return ofDomain.filter(
      ({ maskVersion }) => maskVersion >= oldest || maskVersion === 0 || maskVersion === activeVersion,
    )
  })
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
function rMatrix(
  { activeVersion, promoted }: DriftRecord,
  cells: ReadonlyMap<string, HoldoutCells[]>,
  isShown: ReadonlySet<string>,
): DriftReport['r'] {
  const all = [
    { mask_version: 0, calibrated_domains: [] as string[] },
    ...promoted.map(({ mask, updateDomains }) => ({
      mask_version: mask.version,
      calibrated_domains: updateDomains.filter((domain) => mask.domains.includes(domain)),
    })),
  ]
  const learned = all.flatMap((stage) => stage.calibrated_domains).filter((domain) => cells.has(domain))
  const known = [...new Set([...learned, ...[...cells.keys()].sort()])]
  const served = all.slice(0, all.findIndex((stage) => stage.mask_version === activeVersion) + 1)
  const forgetting = known.flatMap((domain) => forgettingOf(domain, cells.get(domain) ?? [], served) ?? [])
  const domains = known.filter((domain) => isShown.has(domain))
  const columns = domains.map((domain) => versionToShow(cells.get(domain) ?? [], all, activeVersion))
  const stages = all.filter(
    ({ mask_version: version }, place) =>
      place === 0 || place >= all.length - MAX_MASKS || version === activeVersion,
  )
  return {
    domains,
    holdouts: domains.map((domain, column) => ({
      domain,
      version: columns[column]?.version ?? null,
      sha256: columns[column]?.sha256 ?? '',
    })),
    stages,
    earlier_stages: all.length - stages.length,
    perplexity: stages.map((stage) =>
      columns.map((column) => column?.perplexity.get(stage.mask_version) ?? null),
    ),
    backward_transfer: transferOf(forgetting),
    forgetting: forgetting.filter(({ domain }) => isShown.has(domain)),
  }
}

/** Computes backward transfer up to the active mask, from the first mask that learned each domain. */
function transferOf(forgetting: DriftReport['r']['forgetting']): DriftReport['r']['backward_transfer'] {
  const differences = forgetting.flatMap(({ first }) => first?.difference ?? [])
  if (differences.length === 0) return null
  const sum = differences.reduce((total, difference) => total + difference, 0)
  return { mean: sum / differences.length, max: Math.max(...differences) }
}
