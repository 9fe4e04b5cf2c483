import type { CalibrateJob, CalibrateResult } from '@copal/shared/wire/adaptation-jobs.ts'

/**
 * Returns the tokens of a calibration as far as the gateway reads them: those of the job's own datasets, and of the others one
 * dataset of each domain, by which the domain counts. All of them would pass the 4 MiB of a heartbeat at some 40,000.
 */
export function reportedTokens(
  tokens: CalibrateResult['tokens'],
  { datasets, accumulated }: Pick<CalibrateJob, 'datasets' | 'accumulated'>,
): CalibrateResult['tokens'] {
  const own = new Set(datasets.map(({ sha256 }) => sha256))
  const domains = new Map(accumulated.map(({ sha256, domain }) => [sha256, domain]))
  const named = new Set<string>()
  return tokens.filter(({ sha256 }) => {
    if (own.has(sha256)) return true
    const domain = domains.get(sha256) ?? sha256
    if (named.has(domain)) return false
    named.add(domain)
    return true
  })
}
