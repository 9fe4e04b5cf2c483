import { AppError } from '@copal/shared/errors.ts'
import { listDatasetsOf } from '../db/queries/datasets.ts'
import { forgetDomain } from '../db/queries/domains.ts'
import { listRunningUpdates } from '../db/queries/updates.ts'
import type { Deps } from '../deps.ts'
import { datasetKey } from '../updates/datasets.ts'

/**
 * Deletes a domain with every text that was stored for it: samples, holdout, frozen datasets, evaluations.
 * Masks that its statistics helped to choose stay; the next update does not count it any more.
 *
 * @throws AppError `conflict` while an update that may read its texts is running
 */
export async function deleteDomain(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir'>,
  domain: string,
): Promise<void> {
  const [running] = await listRunningUpdates(deps.db)
  if (running) {
    throw new AppError(
      'conflict',
      `Update '${running.id}' is ${running.state} and may read the texts of '${domain}'. Delete the domain when it has ended, or cancel it.`,
    )
  }
  await deps.reservoir(domain).clear()
  const hashes = await listDatasetsOf(deps.db, domain)
  if (hashes.length > 0) await deps.artifacts.delete(hashes.map(datasetKey))
  await forgetDomain(deps.db, domain)
}
