import { readDataset } from '../../storage/artifacts/datasets.ts'
import { listUnmarkedBatches, setBatchesMarked } from '../../storage/db/queries/batch-queries.ts'
import { findHoldout } from '../../storage/db/queries/holdout-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { textHash } from '../sampling/text-hash.ts'

/**
 * Tells a domain's reservoir which texts it has given away before it kept marks: those of batches, so that no update
 * calibrates on them again, and those of the first holdout, so that none ever does. Repeating it changes nothing.
 */
export async function markKnownTexts(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir'>,
  domain: string,
): Promise<void> {
  const unmarked = await listUnmarkedBatches(deps.db, domain)
  for (const { model, updateId, datasetSha256 } of unmarked) {
    const hashes = await textHashes(deps, datasetSha256)
    await deps.reservoir(domain).markTaken({ model, updateId, hashes })
  }
  const first = await findHoldout(deps.db, domain, 1)
  await deps.reservoir(domain).markHeldOut(first ? await textHashes(deps, first.sha256) : [])
  if (unmarked.length > 0) await setBatchesMarked(deps.db, domain)
}

async function textHashes(deps: Pick<Deps, 'artifacts'>, dataset: string): Promise<string[]> {
  const texts = await readDataset(deps, dataset)
  return Promise.all((texts ?? []).map(({ text }) => textHash(text)))
}
