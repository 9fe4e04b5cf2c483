import { readDataset } from '../../storage/artifacts/datasets.ts'
import {
  listUnmarkedBatches,
  setBatchesMarked,
  type BatchRow,
} from '../../storage/db/queries/batch-queries.ts'
import { listFirstHoldouts, type HoldoutRow } from '../../storage/db/queries/holdout-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { textHash } from '../sampling/text-hash.ts'

/** Batches whose texts the reservoirs of their domains do not know yet, and the first holdouts of these domains. */
export interface KnownTexts {
  unmarked: readonly BatchRow[]
  firsts: readonly HoldoutRow[]
}

/** Finds the texts of some domains that {@link markKnownTexts} marks. */
export async function findKnownTexts(
  { db }: Pick<Deps, 'db'>,
  domains: readonly string[],
): Promise<KnownTexts> {
  const [unmarked, firsts] = await Promise.all([
    listUnmarkedBatches(db, domains),
    listFirstHoldouts(db, domains),
  ])
  return { unmarked, firsts }
}

/**
 * Tells a domain's reservoir which texts it has given away before it kept marks: those of batches, so that no update calibrates on
 * them again, and those of the first holdout, so that none ever does. Repeating it changes nothing.
 */
export async function markKnownTexts(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir'>,
  domain: string,
  { unmarked, firsts }: KnownTexts,
): Promise<void> {
  const own = unmarked.filter((batch) => batch.domain === domain)
  for (const { model, updateId, datasetSha256 } of own) {
    const hashes = await textHashes(deps, datasetSha256)
    await deps.reservoir(domain).markTaken({ model, updateId, hashes })
  }
  const first = firsts.find((holdout) => holdout.domain === domain)
  await deps.reservoir(domain).markHeldOut(first ? await textHashes(deps, first.sha256) : [])
  if (own.length > 0) await setBatchesMarked(deps.db, domain)
}

async function textHashes(deps: Pick<Deps, 'artifacts'>, dataset: string): Promise<string[]> {
  const texts = await readDataset(deps, dataset)
  return Promise.all((texts ?? []).map(({ text }) => textHash(text)))
}
