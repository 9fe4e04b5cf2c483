import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import {
  listAllArtifacts,
  partId,
  type Artifact,
  type ArtifactPart,
} from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import {
  readCountedParts,
  statisticsFolder,
  statisticsFolders,
  type CountedPart,
} from '@copal/gpu-node/pruning/statistics/statistics-folder.ts'
import { coverParts } from '@copal/gpu-node/pruning/statistics/artifact-folder.ts'
import { modelIdentity, type IdentifiedModel } from '@copal/gpu-node/model/master/model-identity.ts'
import { readFolderModel } from './folder-model.ts'
import { readResults } from '../results/results-file.ts'

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
 * A folder keeps statistics of former texts, samples and seeds too. Those count that the `results.json` of a laboratory
 * names, or that the newest mask of a service was selected from, under the names that domains have there.
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
  const { artifacts, counted } = await statisticsInFolder(dir, model)
  const onDisk = distinctParts(artifacts.flatMap((artifact) => artifact.parts))
  const parts = counted
    ? counted.flatMap(({ id, domain }) =>
        onDisk.filter((part) => part.id === id).map((part) => ({ ...part, domain })),
      )
    : onDisk
  const known = [...new Set(parts.map(({ domain }) => domain))].toSorted()
  for (const name of names ?? []) {
    if (known.includes(name)) continue
    const nearest = suggestName(name, known)
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
        ? `There are no statistics in ${dir} of what was last calibrated there: the same run or update makes them again.`
        : `There are no statistics in ${dir}. Name a folder that copal lab run wrote, or the home of a service that was updated.`,
    )
  }
  const domains = names === null ? known : [...new Set(names)].toSorted()
  const named = parts.filter(({ domain }) => domains.includes(domain))
  if (!counted) requireOnePartPerDomain(dir, named)
  const wanted = distinctParts(named)
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

/** Those of the model, and which of them count, where that is known. */
async function statisticsInFolder(
  dir: string,
  model: IdentifiedModel,
): Promise<{ artifacts: Artifact[]; counted: CountedPart[] | undefined }> {
  const { baseSha256 } = model.master
  const identity = await modelIdentity(model)
  const ofBase = (artifacts: readonly Artifact[]) =>
    artifacts.filter((artifact) => artifact.baseSha256 === baseSha256)

  const ofLab = await listAllArtifacts(join(dir, 'cache', 'statistics'))
  const kept = await readFolderModel(dir)
  const lab = kept === undefined || kept.identity === identity ? ofBase(ofLab) : []
  if (lab.length > 0) return { artifacts: lab, counted: await countedPartsOfLab(dir, baseSha256) }

  const root = join(dir, 'statistics')
  const own = statisticsFolder(root, identity)
  // An older service has them beside the folders.
  const before = await listAllArtifacts(root)
  const service = ofBase([...(await listAllArtifacts(own)), ...before])
  if (service.length > 0) return { artifacts: service, counted: await readCountedParts(own) }

  const folders = await Promise.all((await statisticsFolders(root)).map(listAllArtifacts))
  const [other] = [...ofLab, ...before, ...folders.flat()]
  if (other === undefined) return { artifacts: [], counted: undefined }
  throw new AppError(
    'mask_base_mismatch',
    other.baseSha256 === baseSha256
      ? `The statistics in ${dir} are of a model with the same linears whose configuration, embeddings or tokenizer differ.`
      : `The statistics in ${dir} are of another model: their base is ${other.baseSha256}, this model's is ${baseSha256}.`,
  )
}

/** What the results in a laboratory's folder were calibrated with; undefined where there are none of the model. */
async function countedPartsOfLab(dir: string, baseSha256: string): Promise<CountedPart[] | undefined> {
  const results = await readResults(dir).catch(() => undefined)
  if (results?.model.baseSha256 !== baseSha256) return undefined
  const { samples, length, seed } = results.settings
  return results.domains.flatMap(({ name: domain, calibration }) =>
    calibration
      ? [{ domain, id: partId({ baseSha256, datasetSha256: calibration.sha256, samples, length, seed }) }]
      : [],
  )
}

function requireOnePartPerDomain(dir: string, parts: readonly ArtifactPart[]): void {
  for (const [domain, same] of Map.groupBy(parts, (part) => part.domain)) {
    if (same.length === 1) continue
    const each = same.map(
      ({ id, datasetSha256, tokens }) =>
        `${id.slice(0, 12)} (${tokens} tokens of the text ${datasetSha256.slice(0, 12)})`,
    )
    throw new AppError(
      'invalid_request',
      `There are several statistics of '${domain}' in ${dir}, of other texts, samples, lengths or seeds, and nothing there ` +
        `says which count: ${each.join(', ')}. The same run or update again writes it down.`,
      { param: 'domains' },
    )
  }
}

function distinctParts(parts: readonly ArtifactPart[]): ArtifactPart[] {
  return [...new Map(parts.map((part) => [part.id, part])).values()]
}
