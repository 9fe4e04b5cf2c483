import type { Artifact } from '../statistics/statistics-artifact.ts'
import type { DatasetFile } from './calibration-task.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/**
 * Half-lives after which an artifact does not count less. It then counts next to nothing beside newer text, but a domain that
 * counts by a weight has all of it, which needs sums that do not underflow.
 */
const MAX_HALF_LIVES = 500

/**
 * Returns by how much each artifact counts under a half-life: `2^(-age / half-life)`. Ages are counted from the newest dataset,
 * so that the same task gives the same mask at any time. A merged artifact, from before the half-life was set, cannot be
 * separated; its age is the mean of its parts' ages, weighted by their tokens.
 *
 * @param datasets the datasets that count
 * @returns factors by the id of the artifact
 */
export function decayFactors(
  artifacts: readonly Artifact[],
  datasets: readonly DatasetFile[],
  halfLifeDays: number,
): ReadonlyMap<string, number> {
  const times = datasets.flatMap(({ createdAt }) => createdAt ?? [])
  const newestMs = times.reduce((most, time) => Math.max(most, time), -Infinity)
  const ageMs = new Map(
    datasets.map(({ sha256, createdAt }) => [sha256, createdAt === undefined ? 0 : newestMs - createdAt]),
  )
  return new Map(
    artifacts.map(({ id, parts }) => {
      const byDataset = parts.toSorted((a, b) => (a.datasetSha256 < b.datasetSha256 ? -1 : 1))
      const tokens = byDataset.reduce((sum, part) => sum + part.tokens, 0)
      const meanMs = byDataset.reduce(
        (sum, part) => sum + ((ageMs.get(part.datasetSha256) ?? 0) * part.tokens) / tokens,
        0,
      )
      return [id, 2 ** -Math.min(meanMs / (halfLifeDays * DAY_MS), MAX_HALF_LIVES)]
    }),
  )
}
