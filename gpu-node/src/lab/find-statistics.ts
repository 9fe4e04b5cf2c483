import { dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { nearestName } from '@copal/shared/nearest-name.ts'
import { listAllArtifacts, type Artifact, type ArtifactPart } from '../copal/artifact.ts'
import { statisticsFolder, statisticsFolders } from '../copal/statistics-folder.ts'
import { coverParts } from '../copal/statistics.ts'
import { modelIdentity, type IdentifiedModel } from '../model/identity.ts'
import { readFolderModel } from './folder-model.ts'

/** Statistics that add up to some domains. */
export interface FoundStatistics {
  artifacts: Artifact[]
  /** Sorted. */
  domains: string[]
  parts: ArtifactPart[]
}

/**
 * Finds the statistics of domains in a folder: of every domain there unless some are named. Of one text that was
 * calibrated with different numbers of sequences, the most tokens count.
 *
 * @param dir a laboratory's folder, or a service's home
 * @throws AppError `not_found` there are none, or none of a domain; `mask_base_mismatch` they are of another model;
 * `invalid_request` a domain was merged with others
 */
export async function findStatistics(
  dir: string,
  model: IdentifiedModel,
  names: readonly string[] | null,
): Promise<FoundStatistics> {
  const artifacts = await artifactsIn(dir, model)
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

/** Those of the model. */
async function artifactsIn(dir: string, model: IdentifiedModel): Promise<Artifact[]> {
  const { baseSha256 } = model.master
  const identity = await modelIdentity(model)
  const lab = join(dir, 'cache', 'statistics')
  const kept = await readFolderModel(dir)
  const service = join(dir, 'statistics')
  const places = [lab, service, ...(await statisticsFolders(service))]
  const all = (await Promise.all(places.map(listAllArtifacts))).flat()
  const isOwn = (place: string) =>
    place === lab
      ? kept === undefined || kept.identity === identity
      : // An older service has them beside the folders.
        place === service || place === statisticsFolder(service, identity)
  const found = all.filter((artifact) => artifact.baseSha256 === baseSha256 && isOwn(dirname(artifact.dir)))
  const [other] = all
  if (found.length > 0 || other === undefined) return found
  throw new AppError(
    'mask_base_mismatch',
    other.baseSha256 === baseSha256
      ? `The statistics in ${dir} are of a model with the same linears whose configuration, embeddings or tokenizer differ.`
      : `The statistics in ${dir} are of another model: their base is ${other.baseSha256}, this model's is ${baseSha256}.`,
  )
}

/** One part of each text of each domain. */
function largestParts(parts: readonly ArtifactPart[]): ArtifactPart[] {
  const byText = Map.groupBy(parts, ({ domain, datasetSha256 }) => `${domain} ${datasetSha256}`)
  return [...byText.values()].map((same) =>
    same.reduce((most, part) => (part.tokens > most.tokens ? part : most)),
  )
}
