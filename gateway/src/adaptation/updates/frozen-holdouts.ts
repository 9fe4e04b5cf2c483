import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import {
  ensureDomains,
  freezeHoldout,
  listDomains,
  type DomainRow,
} from '../../storage/db/queries/domain-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { StoredText } from '../../contracts/reservoir-object.ts'
import { freezeDataset } from '../../storage/artifacts/datasets.ts'
import { hasAmpleHoldout, requireHoldout } from './text-sufficiency.ts'

/**
 * Returns the frozen holdouts to evaluate a mask on, sorted by domain: those of `domains` and of every other domain with
 * a frozen holdout or enough held-out text. Holdouts that were not frozen are frozen now.
 *
 * @throws AppError `insufficient_samples` when one of `domains` has too little
 */
export async function ensureFrozenHoldouts(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>,
  domains: readonly string[],
  windowTokens: number,
): Promise<DatasetRef[]> {
  await ensureDomains(deps.db, domains, deps.nowMs())
  const holdouts = await Promise.all(
    (await listDomains(deps.db)).map(async (domain): Promise<DatasetRef | undefined> => {
      const frozen = frozenHoldout(domain)
      if (frozen) return frozen
      const texts = await deps.reservoir(domain.name).holdout()
      const characters = texts.reduce((sum, { text }) => sum + text.length, 0)
      if (domains.includes(domain.name)) requireHoldout(domain.name, characters, windowTokens)
      else if (!hasAmpleHoldout(characters, windowTokens)) return undefined
      return freeze(deps, domain.name, texts)
    }),
  )
  return holdouts.filter((holdout) => holdout !== undefined)
}

/** Freezes a holdout in D1 first, then in the reservoir; if the latter fails, the next evaluation repeats it. */
async function freeze(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>,
  name: string,
  texts: readonly StoredText[],
): Promise<DatasetRef | undefined> {
  const dataset = await freezeDataset(deps, name, texts)
  const domain = await freezeHoldout(deps.db, name, dataset)
  await deps.reservoir(name).freezeHoldout()
  return domain && frozenHoldout(domain)
}

function frozenHoldout({ name, holdoutSha256, holdoutSamples }: DomainRow): DatasetRef | undefined {
  if (holdoutSha256 === null || holdoutSamples === null) return undefined
  return { sha256: holdoutSha256, domain: name, samples: holdoutSamples }
}
