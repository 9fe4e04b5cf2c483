import { DAY_MS } from '@copal/shared/day.ts'
import type { Artifact } from '../statistics/statistics-artifact.ts'
import type { DatasetFile } from './calibration-task.ts'

/**
 * Half-lives after which a dataset does not count less. It then counts next to nothing beside newer text, but a domain that
 * counts by a weight has all of it, which needs sums that do not underflow.
 */
const MAX_HALF_LIVES = 500

/**
 * Returns by how much each artifact counts under a half-life: `2^(-age / half-life)`. Ages are counted from the newest dataset,
 * so that the same task gives the same mask at any time. A merged artifact, from before the half-life was set, cannot be
 * separated; its factor is the mean of its parts' factors, weighted by their tokens, so that its tokens count as much as if it
 * could.
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
  const factors = new Map(
    datasets.map(({ sha256, createdAt }) => {
      const ageMs = createdAt === undefined ? 0 : newestMs - createdAt
      return [sha256, 2 ** -Math.min(ageMs / (halfLifeDays * DAY_MS), MAX_HALF_LIVES)]
    }),
  )
  return new Map(
    artifacts.map(({ id, parts }) => {
      const byDataset = parts.toSorted((a, b) => (a.datasetSha256 < b.datasetSha256 ? -1 : 1))
      const tokens = byDataset.reduce((sum, part) => sum + part.tokens, 0)
      const mean = byDataset.reduce(
        (sum, part) => sum + (factors.get(part.datasetSha256) ?? 1) * (part.tokens / tokens),
        0,
      )
      return [id, mean]
    }),
  )
}
