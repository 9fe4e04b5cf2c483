import type { StepDeps } from './update-step.ts'
import { type TextDemand, requireSamples, requireHoldout } from './text-sufficiency.ts'
import { findDomain } from '../../storage/db/queries/domain-queries.ts'

/**
 * Checks that each domain has enough text to calibrate and to evaluate on.
 *
 * @throws AppError `insufficient_samples` that names the first domain with too little text
 */
export async function requireDomainTexts(
  deps: Pick<StepDeps, 'db' | 'reservoir'>,
  domains: readonly string[],
  demand: TextDemand,
  windowTokens: number,
): Promise<void> {
  for (const name of domains) {
    const [domain, stats] = await Promise.all([findDomain(deps.db, name), deps.reservoir(name).stats()])
    requireSamples(name, stats.characters, demand)
    if (!domain?.holdoutSha256) requireHoldout(name, stats.holdoutCharacters, windowTokens)
  }
}
