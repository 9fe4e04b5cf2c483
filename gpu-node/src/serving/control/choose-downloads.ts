import type { StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'

/**
 * Chooses artifacts to fetch so that as many missing datasets as possible are covered with few bytes: repeatedly the one with
 * the fewest bytes for each missing dataset that it adds. No dataset is in two of them. An artifact may contain datasets that
 * are on disk, if it contains everything of their artifacts, because these cannot be separated.
 *
 * @param stored artifacts whose datasets are all wanted
 * @param missing hashes of the datasets that are not on disk
 * @param held the datasets of each artifact on disk that would be used; no dataset is in two of them
 */
export function chooseDownloads(
  stored: readonly StatisticsRef[],
  missing: readonly string[],
  held: readonly (readonly string[])[],
): StatisticsRef[] {
  const open = new Set(missing)
  const groupOf = new Map(held.flatMap((group) => group.map((dataset) => [dataset, group] as const)))

  function fits({ datasets }: StatisticsRef): boolean {
    const own = new Set(datasets)
    const groups = new Set(datasets.map((dataset) => groupOf.get(dataset) ?? []))
    return (
      datasets.some((dataset) => open.has(dataset)) &&
      datasets.every((dataset) => open.has(dataset) || groupOf.has(dataset)) &&
      [...groups].every((group) => group.every((dataset) => own.has(dataset)))
    )
  }

  // The cost of an artifact never changes while none of its datasets is taken.
  const cheapestFirst = stored
    .filter(fits)
    .map((ref) => ({ ref, cost: ref.bytes / ref.datasets.filter((dataset) => open.has(dataset)).length }))
    .toSorted(
      (a, b) => a.cost - b.cost || a.ref.bytes - b.ref.bytes || (a.ref.artifact < b.ref.artifact ? -1 : 1),
    )
  const taken = new Set<string>()
  const chosen: StatisticsRef[] = []
  for (const { ref } of cheapestFirst) {
    if (ref.datasets.some((dataset) => taken.has(dataset))) continue
    chosen.push(ref)
    for (const dataset of ref.datasets) taken.add(dataset)
  }
  return chosen
}
