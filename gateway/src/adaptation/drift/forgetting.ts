import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import { perplexity } from '@copal/shared/metrics/perplexity.ts'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import type { MeanLossRow } from '../../storage/db/queries/evaluation-queries.ts'
import type { HoldoutRow } from '../../storage/db/queries/holdout-queries.ts'

/** A row of the R matrix: a mask, and the domains that its update calibrated on. */
export type Stage = DriftReport['r']['stages'][number]
/** One entry of `r.forgetting`. */
export type Forgetting = DriftReport['r']['forgetting'][number]

/** Perplexities of one domain by mask version, on one version of its holdout. */
export interface HoldoutCells {
  /** Null if that version was deleted. */
  version: number | null
  sha256: string
  perplexity: ReadonlyMap<number, number>
  /** The numerics of each; null where they are not known. */
  numerics: ReadonlyMap<number, string | null>
}

/** Groups the evaluations of each domain by holdout version, newest version first. */
export function cellsByDomain(
  evaluations: readonly MeanLossRow[],
  holdouts: readonly HoldoutRow[],
): Map<string, HoldoutCells[]> {
  const byDomain = Map.groupBy(evaluations, ({ domain }) => domain)
  return new Map(
    [...byDomain].map(([domain, ofDomain]) => {
      const versions = [...Map.groupBy(ofDomain, ({ holdoutSha256 }) => holdoutSha256)].map(
        ([sha256, rows]) => ({
          sha256,
          version:
            holdouts.find((holdout) => holdout.domain === domain && holdout.sha256 === sha256)?.version ??
            null,
          sinceMs: Math.min(...rows.map(({ createdAt }) => createdAt)),
          perplexity: new Map(rows.map((row) => [row.version, perplexity(row.nllMean)])),
          numerics: new Map(rows.map((row) => [row.version, row.numerics])),
        }),
      )
      // Deleted versions are older than any that exists.
      versions.sort((a, b) => (b.version ?? 0) - (a.version ?? 0) || b.sinceMs - a.sinceMs)
      return [domain, versions]
    }),
  )
}

/**
 * Chooses the holdout version that a column of the R matrix shows: of those that a mask was evaluated on (of all, if there is none)
 * the one with most stages, and the newest of these. Only cells that can be compared count: those of the numerics of that mask, or of
 * the last stage.
 *
 * @param versions newest first
 */
export function versionToShow(
  versions: readonly HoldoutCells[],
  stages: readonly Stage[],
  maskVersion: number,
): HoldoutCells | undefined {
  const withMask = versions.filter((cells) => cells.perplexity.has(maskVersion))
  const stagesOf = (cells: HoldoutCells) => stages.filter((stage) => cells.perplexity.has(stage.mask_version))
  const shown =
    withMask.length > 0
      ? withMask.map((cells) => comparableWith(cells, maskVersion))
      : versions.map((cells) => comparableWith(cells, stagesOf(cells).at(-1)?.mask_version ?? maskVersion))
  let best: HoldoutCells | undefined
  for (const cells of shown) if (!best || stagesOf(cells).length > stagesOf(best).length) best = cells
  return best
}

/** Returns the cells whose numerics are those of a mask. */
function comparableWith(
  { perplexity: values, numerics, ...cells }: HoldoutCells,
  mask: number,
): HoldoutCells {
  const numericsOf = (version: number) => numerics.get(version) ?? null
  const isAlike = ([version]: [number, number]) => sameNumerics(numericsOf(version), numericsOf(mask))
  return { ...cells, numerics, perplexity: new Map([...values].filter(isAlike)) }
}

/**
 * Compares a domain's loss under the active mask with that under the first mask that learned it and under the best mask so
 * far, on the newest holdout version that has the first of these pairs, or else the second. Losses of other numerics are not
 * compared. Dense is no mask.
 *
 * @param versions newest first
 * @param served the stages up to the active mask, which is the last
 * @returns undefined if the domain was not learned before the active mask, or no earlier mask was evaluated with it
 */
export function forgettingOf(
  domain: string,
  versions: readonly HoldoutCells[],
  served: readonly Stage[],
): Forgetting | undefined {
  const last = served.at(-1)
  const first = served.find(({ calibrated_domains: calibrated }) => calibrated.includes(domain))
  if (!last || !first || first === last) return undefined
  const earlier = served.slice(0, -1).filter(({ mask_version: version }) => version > 0)
  const measured = versions
    .filter((cells) => cells.perplexity.has(last.mask_version))
    .map((cells) => comparableWith(cells, last.mask_version))
  const cells =
    measured.find(({ perplexity: values }) => values.has(first.mask_version)) ??
    measured.find(({ perplexity: values }) => earlier.some((stage) => values.has(stage.mask_version)))
  const active = cells?.perplexity.get(last.mask_version)
  if (!cells || active === undefined) return undefined
  const compare = (version: number): Forgetting['first'] => {
    const value = cells.perplexity.get(version)
    return value === undefined
      ? null
      : { mask_version: version, perplexity: value, difference: active - value }
  }
  const best = earlier
    .flatMap((stage) => compare(stage.mask_version) ?? [])
    .reduce<Forgetting['best']>(
      (least, other) => (least && least.perplexity <= other.perplexity ? least : other),
      null,
    )
  return { domain, holdout_version: cells.version, first: compare(first.mask_version), best, active }
}
