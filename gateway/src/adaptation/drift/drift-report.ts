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
  /** Of each domain by ascending mask version. */
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
  /** The mask to report beside dense and the active one, instead of the newest. */
  maskVersion?: number | undefined
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
    traffic: [...Map.groupBy(traffic, ({ domain }) => domain)]
      .filter(([domain]) => isShown.has(domain))
      .flatMap(([, sums]) => reported(sums, ({ maskVersion }) => maskVersion, activeVersion, page))
      .map(trafficEntry),
    r: rMatrix(record, cells, isShown, page),
    next_after: shown.length < left.length ? (shown.at(-1) ?? null) : null,
  }
}

/** Compares names by their code units, as the order of pages must not depend on a language. */
function byName(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

/** Returns the rows of dense, of the active mask, and of the mask of a page or the newest: the last ones. */
function reported<T>(
  rows: readonly T[],
  versionOf: (row: T) => number,
  activeVersion: number,
  { maskVersion }: DriftPage,
): T[] {
  return rows.filter((row, place) => {
    const version = versionOf(row)
    const isNamed = maskVersion === undefined ? place >= rows.length - MAX_MASKS : version === maskVersion
    return isNamed || version === 0 || version === activeVersion
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
 * are measured on one version of the domain's holdout and with the same numerics, because others cannot be compared.
 */
function rMatrix(
  { activeVersion, promoted }: DriftRecord,
  cells: ReadonlyMap<string, HoldoutCells[]>,
  isShown: ReadonlySet<string>,
  page: DriftPage,
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
  const stages = reported(all, (stage) => stage.mask_version, activeVersion, page)
  const columns = domains.map((domain) =>
    page.maskVersion === undefined
      ? versionToShow(cells.get(domain) ?? [], all, activeVersion)
      : versionToShow(cells.get(domain) ?? [], stages, page.maskVersion),
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
