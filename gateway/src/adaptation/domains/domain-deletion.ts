import { AppError } from '@copal/shared/errors.ts'
import { forgetDatasets, listDatasetsOf, replaceDataset } from '../../storage/db/queries/dataset-queries.ts'
import { findDomain, forgetDomain } from '../../storage/db/queries/domain-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { datasetKey } from '../../storage/artifacts/artifact-keys.ts'
import { freezeDataset, readDataset } from '../../storage/artifacts/datasets.ts'

/**
 * Deletes a domain with everything that was stored for it: samples, holdout, frozen datasets, evaluations and totals.
 * Masks that were chosen with its statistics stay; the next update no longer counts them.
 *
 * @throws AppError `conflict` while an update that may read its texts is running
 */
export async function deleteDomain(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir'>,
  domain: string,
): Promise<void> {
  await requireNoRunningUpdate(deps, domain)
  await deps.reservoir(domain).clear()
  const hashes = await listDatasetsOf(deps.db, domain)
  if (hashes.length > 0) await deps.artifacts.delete(hashes.map(datasetKey))
  await forgetDomain(deps.db, domain)
}

/** The numbers of texts of a key that were deleted. */
export interface DeletedTexts {
  sampled: number
  /** Texts in datasets and the holdout; a text counts once for each of them that contains it. */
  frozen: number
}

/**
 * Deletes the texts of one key from a domain: samples, frozen datasets and the holdout.
 *
 * A dataset is replaced by one of its remaining texts, which the next update calibrates on again, so that later
 * statistics and masks do not depend on the key. Texts frozen before datasets recorded keys stay.
 *
 * @throws AppError `conflict` while an update that may read the texts is running
 */
export async function deleteKeyTexts(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>,
  domain: string,
  keyId: string,
): Promise<DeletedTexts> {
  await requireNoRunningUpdate(deps, domain)
  const sampled = await deps.reservoir(domain).deleteTexts(keyId)
  let frozen = 0
  // If this is interrupted, the current dataset is still listed, and calling it again continues.
  for (const hash of await listDatasetsOf(deps.db, domain)) {
    const texts = await readDataset(deps, hash)
    const remaining = texts?.filter((text) => text.keyId !== keyId) ?? []
    if (texts?.length === remaining.length) continue
    const replacement = remaining.length > 0 ? await freezeDataset(deps, domain, remaining) : undefined
    await replaceDataset(deps.db, hash, replacement)
    await deps.artifacts.delete(datasetKey(hash))
    await forgetDatasets(deps.db, [hash])
    frozen += (texts?.length ?? 0) - remaining.length
  }
  const known = await findDomain(deps.db, domain)
  if (known?.holdoutSha256 === null) await deps.reservoir(domain).thawHoldout()
  return { sampled, frozen }
}

async function requireNoRunningUpdate({ db }: Pick<Deps, 'db'>, domain: string): Promise<void> {
  const [running] = await listRunningUpdates(db)
  if (!running) return
  throw new AppError(
    'conflict',
    `Nothing was deleted: update '${running.id}' is ${running.state} and may read the texts of '${domain}'. Wait until ` +
      `it ends, or cancel it with 'POST /admin/updates/${running.id}/cancel'.`,
  )
}
