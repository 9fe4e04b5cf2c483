import type { DatasetRef, StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { recordAudit } from '../../audit/record-audit.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { findStored } from '../../storage/artifacts/statistics-files.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { retireLost } from '../../storage/db/queries/expiry-queries.ts'
import { usableStatistics } from './usable-statistics.ts'

/**
 * Takes counted datasets out of a model's statistics whose texts have expired and whose statistics are lost, as by a deletion of
 * texts that they were summed with: no node can calibrate them again, and an update that counted them would fail.
 *
 * @param own the datasets of the update itself, which artifacts may sum too
 * @param stored the statistics of the model
 * @returns the datasets that still count
 */
export async function withoutLost(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  model: string,
  { own, counted, stored }: { own: readonly DatasetRef[]; counted: DatasetRef[]; stored: StatisticsRef[] },
): Promise<DatasetRef[]> {
  let left = counted
  // Without one that is lost, an artifact that sums it is of no use, so others may be lost with it.
  for (;;) {
    const covered = await coveredBy(deps, usableStatistics(stored, [...own, ...left]), left)
    const lost = left.filter(({ sha256, expired }) => expired && !covered.has(sha256))
    if (lost.length === 0) return left
    await retireLost(deps.db, model, lost)
    for (const [domain, datasets] of Map.groupBy(lost, (ref) => ref.domain)) {
      const reason = `The texts of ${datasets.length} datasets of '${domain}' have expired and their statistics are lost`
      console.warn(`${reason}: they do not count in masks of '${model}' any more.`)
      await recordAudit(deps, {
        actor: SERVICE_ACTOR,
        action: 'statistics.lost',
        target: `${model} ${domain}`,
        before: datasets.map(({ sha256 }) => sha256),
        reason,
      })
    }
    left = left.filter((ref) => !lost.includes(ref))
  }
}

/** Returns the datasets that stored artifacts sum. Nothing is looked up where no text has expired. */
async function coveredBy(
  deps: Pick<Deps, 'artifacts'>,
  usable: readonly StatisticsRef[],
  counted: readonly DatasetRef[],
): Promise<Set<string>> {
  const expired = new Set(counted.flatMap(({ sha256, expired: isGone }) => (isGone ? sha256 : [])))
  const needed = usable.filter(({ datasets }) => datasets.some((dataset) => expired.has(dataset)))
  const stored = await findStored(
    deps,
    needed.map(({ artifact }) => artifact),
  )
  return new Set(needed.flatMap(({ artifact, datasets }) => (stored.has(artifact) ? datasets : [])))
}
