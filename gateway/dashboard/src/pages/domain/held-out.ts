/** Perplexities of held-out text from the R matrix. */
import type { DriftReport } from '@copal/shared/wire/admin.ts'

type RMatrix = DriftReport['r']

/** The perplexity of a domain after one mask. */
export interface MaskPerplexity {
  version: number
  perplexity: number
  /** Over dense, per cent; null for dense itself, or if dense is not known. */
  change: number | null
  isCalibrated: boolean
}

/** The name of a stage of the R matrix. */
export function stageName(version: number): string {
  return version === 0 ? 'dense' : `mask ${version}`
}

/** The distance of each perplexity from the dense one of its domain, per cent; null where either is not known. */
export function changesFromDense({ stages, perplexity }: RMatrix): (number | null)[][] {
  const dense = perplexity[stages.findIndex(({ mask_version: version }) => version === 0)]
  return perplexity.map((row) =>
    row.map((value, column) => {
      const base = dense?.[column]
      return value === null || typeof base !== 'number' || base === 0 ? null : (value / base - 1) * 100
    }),
  )
}

/** The perplexities of one domain, in the order of the masks; those that are not known are left out. */
export function perplexityByMask(matrix: RMatrix, domain: string): MaskPerplexity[] {
  const column = matrix.domains.indexOf(domain)
  const changes = changesFromDense(matrix)
  return matrix.stages.flatMap(({ mask_version: version, calibrated_domains: calibrated }, stage) => {
    const perplexity = matrix.perplexity[stage]?.[column]
    if (typeof perplexity !== 'number') return []
    const change = version === 0 ? null : (changes[stage]?.[column] ?? null)
    return [{ version, perplexity, change, isCalibrated: calibrated.includes(domain) }]
  })
}
