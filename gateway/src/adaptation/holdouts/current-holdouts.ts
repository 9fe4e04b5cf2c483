import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { ensureDomains, listDomains, type DomainRow } from '../../storage/db/queries/domain-queries.ts'
import {
  insertHoldout,
  listLatestHoldouts,
  type SizedHoldout,
} from '../../storage/db/queries/holdout-queries.ts'
import { deleteUnusedDatasets, freezeDataset } from '../../storage/artifacts/datasets.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { StoredText } from '../../contracts/reservoir-object.ts'
import { trafficWeights } from './traffic-weights.ts'
import { domainStats } from '../sampling/domain-counts.ts'
import {
  hasAmpleHoldout,
  heldOutTokens,
  MAX_HOLDOUT_BYTES,
  needsVersion,
  requireHoldouts,
  targetTokens,
  type HeldOutText,
} from './holdout-rules.ts'

type HoldoutDeps = Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>

/** Versions that a call creates of domains that the update does not name: each takes calls of R2, D1 and the reservoir. */
const MAX_NEW_VERSIONS = 32

/** The update for which holdouts are sought. */
export interface HoldoutDemand {
  /** The domains of the update. */
  domains: readonly string[]
  /** Settled tokens of each domain. */
  traffic: ReadonlyMap<string, number>
}

/**
 * Returns the holdouts to evaluate a mask on, sorted by domain: the operator's general one, those of the update's domains,
 * and those of every other domain with a version or enough held-out text. A domain gets a new version where it has none, or
 * where its last one is small for its traffic and the reservoir holds clearly more; versions never change. Of many other domains
 * that need one, some get it in each call, first those without a version.
 *
 * @throws AppError `insufficient_samples` when the update's domains have too little
 */
export async function currentHoldouts(
  deps: HoldoutDeps,
  update: HoldoutDemand,
  windowTokens: number,
): Promise<DatasetRef[]> {
  await ensureDomains(deps.db, update.domains, deps.nowMs())
  const [domains, latest] = await readTogether(deps.db, (db) => [listDomains(db), listLatestHoldouts(db)])
  const general = latest.filter(({ domain }) => domain === GENERAL_HOLDOUT).map(reference)
  const versions = new Map(latest.map((version) => [version.domain, version]))
  const texts = await heldOutTexts(deps, update, domains, versions)
  for (const text of versionsToCreate(texts, update.domains, windowTokens)) {
    // One domain at a time: the texts of a holdout may take a megabyte.
    const minTokens = update.domains.includes(text.domain) ? 0 : windowTokens
    const version = await createVersion(deps, text, versions.get(text.domain), minTokens)
    if (version) versions.set(text.domain, version)
  }
  requireHoldouts(
    texts.filter(({ domain }) => update.domains.includes(domain)),
    windowTokens,
  )
  const refs = texts.flatMap(({ domain }) => versions.get(domain) ?? []).map(reference)
  return [...general, ...refs]
}

/** Returns the sizes of held-out texts. The reservoirs of the update's domains are asked, and of others as many as may be. */
async function heldOutTexts(
  deps: HoldoutDeps,
  { domains: named, traffic }: HoldoutDemand,
  domains: readonly DomainRow[],
  versions: ReadonlyMap<string, SizedHoldout>,
): Promise<HeldOutText[]> {
  const names = domains.map(({ name }) => name)
  const others = names.filter((name) => !named.includes(name))
  const [ofNamed, ofOthers] = await Promise.all([
    domainStats(deps, named, { maxAsked: named.length }),
    domainStats(deps, others),
  ])
  const weights = trafficWeights(names, named, traffic)
  const total = [...weights.values()].reduce((sum, weight) => sum + weight, 0)
  return names.map((name) => ({
    domain: name,
    latest: versions.get(name)?.characters,
    reservoir: (ofNamed.get(name) ?? ofOthers.get(name))?.holdoutCharacters ?? 0,
    target: targetTokens((weights.get(name) ?? 0) / total),
  }))
}

/** Returns the domains that get a new version: those of the update that need one, and some of the others. */
function versionsToCreate(
  texts: readonly HeldOutText[],
  named: readonly string[],
  windowTokens: number,
): HeldOutText[] {
  const needed = texts.filter(needsVersion)
  const ofUpdate = needed.filter(
    (text) =>
      named.includes(text.domain) && (text.latest !== undefined || heldOutTokens(text) >= windowTokens),
  )
  const ofOthers = needed
    .filter(
      ({ domain, latest, reservoir }) =>
        !named.includes(domain) && (latest !== undefined || hasAmpleHoldout(reservoir, windowTokens)),
    )
    .toSorted(
      (a, b) =>
        Number(a.latest !== undefined) - Number(b.latest !== undefined) ||
        b.reservoir - a.reservoir ||
        a.domain.localeCompare(b.domain),
    )
  return [...ofUpdate, ...ofOthers.slice(0, MAX_NEW_VERSIONS)]
}

/**
 * Freezes the held-out texts of a domain as its next version. Of concurrent calls, the first one's version stays.
 *
 * @param windowTokens tokens of a window. A first version needs four windows of text, or any text with 0
 */
async function createVersion(
  deps: HoldoutDeps,
  counted: HeldOutText,
  last: SizedHoldout | undefined,
  windowTokens: number,
): Promise<SizedHoldout | undefined> {
  const { domain } = counted
  const texts = await deps.reservoir(domain).holdout(MAX_HOLDOUT_BYTES)
  const reservoir = charactersOf(texts)
  // Texts may have been deleted since they were counted.
  if (!needsVersion({ ...counted, reservoir })) return last
  if (!last && !hasAmpleHoldout(reservoir, windowTokens)) return undefined
  return (await storeVersion(deps, domain, (last?.version ?? 0) + 1, texts, last)).row
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
  last: SizedHoldout | undefined,
): Promise<{ row: SizedHoldout; isCurrent: boolean }> {
  const { sha256, samples, bytes = null } = await freezeDataset(deps, domain, texts)
  if (last?.sha256 === sha256) return { row: last, isCurrent: true }
  const characters = charactersOf(texts)
  const holdout = { domain, version, sha256, samples, characters, createdAt: deps.nowMs() }
  const row = await insertHoldout(deps.db, holdout)
  if (row?.sha256 !== sha256) await deleteUnusedDatasets(deps, [sha256])
  if (!row) throw new Error(`The domain '${domain}' was deleted while its holdout was stored.`)
  const isCurrent = row.sha256 === sha256
  return { row: isCurrent ? { ...row, bytes } : row, isCurrent }
}

function charactersOf(texts: readonly StoredText[]): number {
  return texts.reduce((sum, { text }) => sum + text.length, 0)
}

function reference({ sha256, domain, samples, bytes, createdAt }: SizedHoldout): DatasetRef {
  return { sha256, domain, samples, createdAt, ...(typeof bytes === 'number' ? { bytes } : {}) }
}
