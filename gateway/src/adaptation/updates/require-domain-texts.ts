import { AppError } from '@copal/shared/errors.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { Database } from '../../contracts/database.ts'
import { listCountedDomains } from '../../storage/db/queries/batch-queries.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { listLatestHoldouts } from '../../storage/db/queries/holdout-queries.ts'
import { findLastUpdate } from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { requireHoldouts, type HeldOutText } from '../holdouts/holdout-rules.ts'
import { keepsTexts } from '../statistics/release-texts.ts'
import { drawOf } from './draw-of.ts'
import { isEnough, tooFewSamples, type TextDemand } from './text-sufficiency.ts'
import type { StepDeps } from './update-step.ts'

/** What an update takes of each domain, and the windows that its masks are evaluated on. */
interface Needs {
  demand: TextDemand
  influence: AdaptationPolicy['influence']
  windowTokens: number
}

/**
 * Checks before an update starts that its domains have enough text: each has statistics or enough new text to calibrate on,
 * and there is enough held-out text to judge a mask.
 *
 * @throws AppError `insufficient_samples` that names a domain and the tokens that it lacks
 */
export async function requireDomainTexts(
  deps: Pick<StepDeps, 'db' | 'reservoir'>,
  model: string,
  domains: readonly string[],
  { demand, influence, windowTokens }: Needs,
): Promise<void> {
  const [counted, last] = await readTogether(deps.db, (db) => [
    listCountedDomains(db, model),
    findLastUpdate(db, model),
  ])
  // The update gives back the texts that the one before keeps, so it decides when it collects.
  const mayGetMore = last !== undefined && keepsTexts(last)
  for (const name of domains) {
    if (counted.has(name) || mayGetMore) continue
    // What a key sends beyond its share is not taken.
    const bytes = await deps.reservoir(name).available(drawOf({ model, ...demand }, influence))
    if (!isEnough(bytes, demand)) throw await missingText(deps.db, name, bytes, demand)
  }
  await requireHeldOutTexts(deps, domains, windowTokens)
}

/** Creates the error for a domain without enough text, or for a name that no domain has. */
async function missingText(db: Database, name: string, bytes: number, demand: TextDemand): Promise<AppError> {
  const names = (await listDomains(db)).map((domain) => domain.name)
  if (bytes > 0 || names.includes(name)) return tooFewSamples(name, bytes, demand)
  const nearest = suggestName(name, names)
  return new AppError(
    'insufficient_samples',
    `There is no domain '${name}' yet.${nearest === undefined ? '' : ` Did you mean '${nearest}'?`} 'GET /admin/domains' lists ` +
      `the domains. Import texts of a new one with 'POST /admin/domains/${name}/texts', or send consenting traffic.`,
    { param: 'domains' },
  )
}

/** @throws AppError `insufficient_samples` */
export async function requireHeldOutTexts(
  deps: Pick<StepDeps, 'db' | 'reservoir'>,
  domains: readonly string[],
  windowTokens: number,
): Promise<void> {
  const versions = await listLatestHoldouts(deps.db)
  const texts: HeldOutText[] = []
  for (const domain of domains) {
    const latest = versions.find((version) => version.domain === domain)?.characters
    const { holdoutCharacters } = await deps.reservoir(domain).stats()
    texts.push({ domain, latest, reservoir: holdoutCharacters })
  }
  requireHoldouts(texts, windowTokens)
}
