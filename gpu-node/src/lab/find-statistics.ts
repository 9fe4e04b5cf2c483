import { dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { nearestName } from '@copal/shared/nearest-name.ts'
import { listAllArtifacts, partId, type Artifact, type ArtifactPart } from '../copal/artifact.ts'
import { statisticsFolder, statisticsFolders } from '../copal/statistics-folder.ts'
import { coverParts } from '../copal/statistics.ts'
import { modelIdentity, type IdentifiedModel } from '../model/identity.ts'
import { readFolderModel } from './folder-model.ts'
import { readResults } from './results-file.ts'
import type { LabResults } from './results.ts'

/** Statistics that add up to some domains. */
export interface FoundStatistics {
  artifacts: Artifact[]
  /** Sorted. */
  domains: string[]
  parts: ArtifactPart[]
}

/**
 * Finds the statistics of domains in a folder: of every domain there unless some are named.
 *
 * A laboratory's folder keeps those of former texts, samples and seeds too: those of its `results.json` count, under the
 * names that domains have there. A service adds texts to a domain with every update: all of them count, and of a text that
 * was calibrated with different numbers of sequences the most tokens.
 *
 * @param dir a laboratory's folder, or a service's home
 * @throws AppError `not_found` there are none, or none of a domain; `mask_base_mismatch` they are of another model;
 * `invalid_request` a domain was merged with others, or nothing says which of its statistics count
 */
export async function findStatistics(
  dir: string,
  model: IdentifiedModel,
  names: readonly string[] | null,
): Promise<FoundStatistics> {
  const { artifacts, isLab } = await artifactsIn(dir, model)
  const onDisk = distinctParts(artifacts.flatMap((artifact) => artifact.parts))
  const results = isLab ? await readResults(dir).catch(() => undefined) : undefined
  const isDescribed = results?.model.baseSha256 === model.master.baseSha256
  const parts = isDescribed ? partsOf(results, onDisk) : onDisk
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
      onDisk.length > 0
        ? `There are no statistics in ${dir} of what its results.json names: copal lab run makes them again.`
        : `There are no statistics in ${dir}. Name a folder that copal lab run wrote, or the home of a service that was updated.`,
    )
  }
  const domains = names === null ? known : [...new Set(names)].toSorted()
  const named = parts.filter(({ domain }) => domains.includes(domain))
  const wanted = distinctParts(isLab ? onePartADomain(dir, named) : largestParts(dir, named))
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

/** Those of the model, and whether they are a laboratory's. */
async function artifactsIn(
  dir: string,
  model: IdentifiedModel,
): Promise<{ artifacts: Artifact[]; isLab: boolean }> {
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
  if (found.length > 0 || other === undefined)
    return { artifacts: found, isLab: found.some((artifact) => dirname(artifact.dir) === lab) }
  throw new AppError(
    'mask_base_mismatch',
    other.baseSha256 === baseSha256
      ? `The statistics in ${dir} are of a model with the same linears whose configuration, embeddings or tokenizer differ.`
      : `The statistics in ${dir} are of another model: their base is ${other.baseSha256}, this model's is ${baseSha256}.`,
  )
}

/** What a result was calibrated with, as far as it is there, by its domains. */
function partsOf({ domains, settings, model }: LabResults, onDisk: readonly ArtifactPart[]): ArtifactPart[] {
  const { samples, length, seed } = settings
  return domains.flatMap(({ name, calibration }) => {
    if (!calibration) return []
    const { baseSha256 } = model
    const id = partId({ baseSha256, datasetSha256: calibration.sha256, samples, length, seed })
    return onDisk.filter((part) => part.id === id).map((part) => ({ ...part, domain: name }))
  })
}

function onePartADomain(dir: string, parts: readonly ArtifactPart[]): ArtifactPart[] {
  const cure = 'Run copal lab run again: its results.json says so.'
  for (const same of Map.groupBy(parts, ({ domain }) => domain).values()) requireOne(dir, same, cure)
  return [...parts]
}

/** One part of each text of each domain. */
function largestParts(dir: string, parts: readonly ArtifactPart[]): ArtifactPart[] {
  const byText = Map.groupBy(parts, ({ domain, datasetSha256 }) => `${domain} ${datasetSha256}`)
  return [...byText.values()].flatMap((same) => {
    const most = Math.max(...same.map(({ tokens }) => tokens))
    const largest = same.filter(({ tokens }) => tokens === most)
    requireOne(dir, largest, 'Remove the others.')
    return largest
  })
}

function requireOne(dir: string, parts: readonly ArtifactPart[], cure: string): void {
  const [first, second] = parts
  if (!first || !second) return
  const each = parts.map(
    ({ id, datasetSha256, tokens }) =>
      `${id.slice(0, 12)} (${tokens} tokens of the text ${datasetSha256.slice(0, 12)})`,
  )
  throw new AppError(
    'invalid_request',
    `There are several statistics of '${first.domain}' in ${dir}, of other texts, samples, lengths or seeds, and nothing ` +
      `there says which one counts: ${each.join(', ')}. ${cure}`,
    { param: 'domains' },
  )
}

function distinctParts(parts: readonly ArtifactPart[]): ArtifactPart[] {
  return [...new Map(parts.map((part) => [part.id, part])).values()]
}
