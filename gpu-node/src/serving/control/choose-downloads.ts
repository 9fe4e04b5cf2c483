import type { StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'

/**
 * Chooses artifacts to fetch so that as many missing datasets as possible are covered with few bytes: repeatedly the one with
 * the fewest bytes for each missing dataset that it adds. No dataset is in two of them. An artifact may contain datasets that
 * are on disk, if it contains everything of their artifacts, because these cannot be separated.
 *
 * @param stored artifacts whose datasets are all wanted
 * @param missing hashes of the datasets that are not on disk
 * @param held the datasets of each artifact on disk that would be used
 */
export function chooseDownloads(
  stored: readonly StatisticsRef[],
  missing: readonly string[],
  held: readonly (readonly string[])[],
): StatisticsRef[] {
  const open = new Set(missing)
  let kept = [...held]
  const taken = new Set<string>()
  const chosen: StatisticsRef[] = []
  const costOf = ({ bytes, datasets }: StatisticsRef) =>
    bytes / datasets.filter((dataset) => open.has(dataset)).length
  for (;;) {
    const fitting = stored.filter(({ datasets }) => {
      const own = new Set(datasets)
      const fits = kept.every(
        (group) => !group.some((one) => own.has(one)) || group.every((one) => own.has(one)),
      )
      const known = new Set([...open, ...kept.flat()])
      return (
        fits &&
        datasets.some((one) => open.has(one)) &&
        datasets.every((one) => known.has(one) && !taken.has(one))
      )
    })
    const [best] = fitting.toSorted(
      (a, b) => costOf(a) - costOf(b) || a.bytes - b.bytes || (a.artifact < b.artifact ? -1 : 1),
    )
    if (!best) return chosen
    chosen.push(best)
    for (const dataset of best.datasets) {
      open.delete(dataset)
      taken.add(dataset)
    }
    kept = kept.filter((group) => !group.some((dataset) => taken.has(dataset)))
  }
}
