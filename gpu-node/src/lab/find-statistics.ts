import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { nearestName } from '@copal/shared/nearest-name.ts'
import { listAllArtifacts, type Artifact, type ArtifactPart } from '../copal/artifact.ts'
import { coverParts } from '../copal/statistics.ts'

/** Statistics that add up to some domains. */
export interface FoundStatistics {
  artifacts: Artifact[]
  /** Sorted. */
  domains: string[]
  parts: ArtifactPart[]
}

/** Where statistics lie in a folder: itself, a laboratory's folder, or the home of a service. */
const PLACES = ['', join('cache', 'statistics'), 'statistics']

/**
 * Finds the statistics of domains in a folder: of every domain there unless some are named. Of one text that was
 * calibrated with different numbers of sequences, the most tokens count.
 *
 * @param dir a laboratory's folder, a service's home, or the statistics folder of either
 * @throws AppError `not_found` there are none, or none of a domain; `mask_base_mismatch` they are of another model;
 * `invalid_request` a domain was merged with others
 */
export async function findStatistics(
  dir: string,
  baseSha256: string,
  names: readonly string[] | null,
): Promise<FoundStatistics> {
  const all = await listIn(dir)
  const artifacts = all.filter((artifact) => artifact.baseSha256 === baseSha256)
  if (all[0] && artifacts.length === 0) {
    throw new AppError(
      'mask_base_mismatch',
      `The statistics in ${dir} are of another model: their base is ${all[0].baseSha256}, this model's is ${baseSha256}.`,
    )
  }
  const parts = [
    ...new Map(artifacts.flatMap((artifact) => artifact.parts).map((part) => [part.id, part])).values(),
  ]
  const known = [...new Set(parts.map(({ domain }) => domain))].toSorted()
  for (const name of names ?? []) {
    if (known.includes(name)) continue
    const nearest = nearestName(name, known)
    throw new AppError(
      'not_found',
      `There are no statistics of a domain '${name}' in ${dir}. ` +
        (nearest === undefined ? `There are: ${known.join(', ') || 'none'}.` : `Did you mean '${nearest}'?`),
      { param: 'domains' },
    )
  }
  if (parts.length === 0) {
    throw new AppError(
      'not_found',
      `There are no statistics in ${dir}. Name a folder that copal lab run wrote, or the home of a service that was updated.`,
    )
  }
  const domains = names === null ? known : [...new Set(names)].toSorted()
  const wanted = largestParts(parts.filter(({ domain }) => domains.includes(domain)))
  const { chosen, missing } = coverParts(
    artifacts,
    wanted.map(({ id }) => id),
  )
  const lost = wanted.find(({ id }) => id === missing[0])
  if (lost) {
    throw new AppError(
      'invalid_request',
      `The statistics of '${lost.domain}' were added to others and cannot be taken apart. Take all of that domain, or calibrate it again.`,
      { param: 'domains' },
    )
  }
  return { artifacts: chosen, domains, parts: wanted }
}

async function listIn(dir: string): Promise<Artifact[]> {
  for (const place of PLACES) {
    const found = await listAllArtifacts(join(dir, place))
    if (found.length > 0) return found
  }
  return []
}

/** One part of each text of each domain. */
function largestParts(parts: readonly ArtifactPart[]): ArtifactPart[] {
  const byText = Map.groupBy(parts, ({ domain, datasetSha256 }) => `${domain} ${datasetSha256}`)
  return [...byText.values()].map((same) =>
    same.reduce((most, part) => (part.tokens > most.tokens ? part : most)),
  )
}
