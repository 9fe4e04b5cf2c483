import { readDataset } from '../../storage/artifacts/datasets.ts'
import { listUnmarkedBatches, setBatchesMarked } from '../../storage/db/queries/batch-queries.ts'
import { listFirstHoldouts } from '../../storage/db/queries/holdout-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { textHash } from '../sampling/text-hash.ts'

/**
 * Returns a function that tells a domain's reservoir which texts it has given away before it kept marks: those of batches, so that no
 * update calibrates on them again, and those of the first holdout, so that none ever does. Repeating it changes nothing.
 *
 * @param domains those for which it may be called
 * @param db what the function asks now
 */
export async function knownTextsMarker(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir'>,
  domains: readonly string[],
  db = deps.db,
): Promise<(domain: string) => Promise<void>> {
  const [unmarked, firsts] = await Promise.all([
    listUnmarkedBatches(db, domains),
    listFirstHoldouts(db, domains),
  ])
  const unmarkedOf = Map.groupBy(unmarked, ({ domain }) => domain)
  return async (domain) => {
    const own = unmarkedOf.get(domain) ?? []
    for (const { model, updateId, datasetSha256 } of own) {
      const hashes = await textHashes(deps, datasetSha256)
      await deps.reservoir(domain).markTaken({ model, updateId, hashes })
    }
    const first = firsts.find((holdout) => holdout.domain === domain)
    await deps.reservoir(domain).markHeldOut(first ? await textHashes(deps, first.sha256) : [])
    if (own.length > 0) await setBatchesMarked(deps.db, domain)
  }
}

async function textHashes(deps: Pick<Deps, 'artifacts'>, dataset: string): Promise<string[]> {
  const texts = await readDataset(deps, dataset)
  return Promise.all((texts ?? []).map(({ text }) => textHash(text)))
}
