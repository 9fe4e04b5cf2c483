import { AppError } from '@copal/shared/errors.ts'
import { forgetDatasets, listDatasetsOf, replaceDataset } from '../../storage/db/queries/dataset-queries.ts'
import { findDomain, forgetDomain } from '../../storage/db/queries/domain-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { datasetKey } from '../../storage/artifacts/artifact-keys.ts'
import { freezeDataset, readDataset } from '../../storage/artifacts/datasets.ts'

/**
 * Deletes a domain with every text that was stored for it: samples, holdout, frozen datasets; evaluations, and its totals.
 * Masks that its statistics helped to choose stay; the next update does not count it any more.
 *
 * @throws AppError `conflict` while an update that may read its texts is running
 */
export async function deleteDomain(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir'>,
  domain: string,
): Promise<void> {
  await refuseDuringUpdate(deps, domain)
  await deps.reservoir(domain).clear()
  const hashes = await listDatasetsOf(deps.db, domain)
  if (hashes.length > 0) await deps.artifacts.delete(hashes.map(datasetKey))
  await forgetDomain(deps.db, domain)
}

/** How many texts of a key were deleted. */
export interface DeletedTexts {
  sampled: number
  /** In datasets and the holdout: one that several have counts in each. */
  frozen: number
}

/**
 * Deletes the texts of one key from a domain: samples, and what is frozen of them. What is left of a dataset stands in
 * its place, so the next update calibrates it again: statistics and masks from then on know nothing of the key. What was
 * frozen before datasets named keys stays.
 *
 * @throws AppError `conflict` while an update that may read the texts is running
 */
export async function deleteKeyTexts(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>,
  domain: string,
  keyId: string,
): Promise<DeletedTexts> {
  await refuseDuringUpdate(deps, domain)
  const sampled = await deps.reservoir(domain).deleteTexts(keyId)
  let frozen = 0
  // Where this is interrupted, the dataset is still known, and the same call again goes on.
  for (const hash of await listDatasetsOf(deps.db, domain)) {
    const texts = await readDataset(deps, hash)
    const left = texts?.filter((text) => text.keyId !== keyId) ?? []
    if (texts?.length === left.length) continue
    const now = left.length > 0 ? await freezeDataset(deps, domain, left) : undefined
    await replaceDataset(deps.db, hash, now)
    await deps.artifacts.delete(datasetKey(hash))
    await forgetDatasets(deps.db, [hash])
    frozen += (texts?.length ?? 0) - left.length
  }
  const known = await findDomain(deps.db, domain)
  if (known?.holdoutSha256 === null) await deps.reservoir(domain).thawHoldout()
  return { sampled, frozen }
}

async function refuseDuringUpdate({ db }: Pick<Deps, 'db'>, domain: string): Promise<void> {
  const [running] = await listRunningUpdates(db)
  if (!running) return
  throw new AppError(
    'conflict',
    `Update '${running.id}' is ${running.state} and may read the texts of '${domain}'. Delete them when it has ended, or cancel it.`,
  )
}
