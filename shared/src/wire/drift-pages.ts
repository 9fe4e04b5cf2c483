import type { DriftReport } from './admin.ts'

/**
 * Joins two pages of `GET /admin/drift` of one model, the second after the first. Pages that were read while another mask became
 * active have other stages: the masks of the first page stay, and cells of masks that the second lacks are null.
 */
export function joinDriftPages(first: DriftReport, second: DriftReport): DriftReport {
  const { r } = first
  const rowOf = new Map(second.r.stages.map(({ mask_version: version }, row) => [version, row]))
  return {
    ...second,
    active_version: first.active_version,
    traffic: [...first.traffic, ...second.traffic],
    r: {
      ...r,
      domains: [...r.domains, ...second.r.domains],
      holdouts: [...r.holdouts, ...second.r.holdouts],
      perplexity: r.stages.map(({ mask_version: version }, row) => {
        const next = second.r.perplexity[rowOf.get(version) ?? -1]
        return [...(r.perplexity[row] ?? []), ...(next ?? second.r.domains.map(() => null))]
      }),
      forgetting: [...r.forgetting, ...second.r.forgetting],
    },
  }
}
