import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { ensureDomains, listDomains } from '../../storage/db/queries/domain-queries.ts'
import {
  insertHoldout,
  listLatestHoldouts,
  type HoldoutRow,
} from '../../storage/db/queries/holdout-queries.ts'
import { deleteUnusedDatasets, freezeDataset } from '../../storage/artifacts/datasets.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { StoredText } from '../../contracts/reservoir-object.ts'
import {
  hasAmpleHoldout,
  heldOutTokens,
  MAX_HOLDOUT_BYTES,
  needsVersion,
  requireHoldouts,
  type HeldOutText,
} from './holdout-rules.ts'

type HoldoutDeps = Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>

/**
 * Returns the holdouts to evaluate a mask on, sorted by domain: the operator's general one, those of the update's domains,
 * and those of every other domain with a version or enough held-out text. A domain gets a new version where it has none, or
 * where its last one is small and the reservoir holds clearly more; versions never change.
 *
 * @throws AppError `insufficient_samples` when the update's domains have too little
 */
export async function currentHoldouts(
  deps: HoldoutDeps,
  update: { domains: readonly string[] },
  windowTokens: number,
): Promise<DatasetRef[]> {
  await ensureDomains(deps.db, update.domains, deps.nowMs())
  const [domains, latest] = await Promise.all([listDomains(deps.db), listLatestHoldouts(deps.db)])
  const general = latest.filter(({ domain }) => domain === GENERAL_HOLDOUT).map(reference)
  const refs: DatasetRef[] = []
  const named: HeldOutText[] = []
  // One domain at a time: the texts of a holdout may take a megabyte.
  for (const { name } of domains) {
    const version = latest.find(({ domain }) => domain === name)
    const { holdoutCharacters: reservoir } = await deps.reservoir(name).stats()
    const text = { domain: name, latest: version?.characters, reservoir }
    const isNamed = update.domains.includes(name)
    if (isNamed) named.push(text)
    const mayStart = isNamed ? heldOutTokens(text) >= windowTokens : hasAmpleHoldout(reservoir, windowTokens)
    const current =
      needsVersion(text) && (version || mayStart) ? await createVersion(deps, name, version) : version
    if (current) refs.push(reference(current))
  }
  requireHoldouts(named, windowTokens)
  return [...general, ...refs]
}

/** Freezes the held-out texts of a domain as its next version. Of concurrent calls, the first one's version stays. */
async function createVersion(
  deps: HoldoutDeps,
  name: string,
  last: HoldoutRow | undefined,
): Promise<HoldoutRow | undefined> {
  const texts = await deps.reservoir(name).holdout(MAX_HOLDOUT_BYTES)
  // Texts may have been deleted since they were counted.
  if (!needsVersion({ latest: last?.characters, reservoir: charactersOf(texts) })) return last
  return (await storeVersion(deps, name, (last?.version ?? 0) + 1, texts, last)).row
}

/**
 * Stores texts as one version of a holdout, unless they are those of `last`, the version before.
 *
 * @returns the latest version, and whether it has these texts: another call may have stored this version first
 */
export async function storeVersion(
  deps: Pick<HoldoutDeps, 'db' | 'artifacts' | 'nowMs'>,
  domain: string,
  version: number,
  texts: readonly StoredText[],
  last: HoldoutRow | undefined,
): Promise<{ row: HoldoutRow; isCurrent: boolean }> {
  const { sha256, samples } = await freezeDataset(deps, domain, texts)
  if (last?.sha256 === sha256) return { row: last, isCurrent: true }
  const characters = charactersOf(texts)
  const holdout = { domain, version, sha256, samples, characters, createdAt: deps.nowMs() }
  const row = await insertHoldout(deps.db, holdout)
  if (row?.sha256 !== sha256) await deleteUnusedDatasets(deps, [sha256])
  if (!row) throw new Error(`The domain '${domain}' was deleted while its holdout was stored.`)
  return { row, isCurrent: row.sha256 === sha256 }
}

function charactersOf(texts: readonly StoredText[]): number {
  return texts.reduce((sum, { text }) => sum + text.length, 0)
}

function reference({ sha256, domain, samples, createdAt }: HoldoutRow): DatasetRef {
  return { sha256, domain, samples, createdAt }
}
