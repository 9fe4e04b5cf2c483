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
import { LAB_DRAW } from '../texts/prepare-domains.ts'

/** Statistics whose sum covers exactly the chosen domains. */
export interface FoundStatistics {
  artifacts: Artifact[]
  /** Sorted. */
  domains: string[]
  parts: ArtifactPart[]
}

/**
 * Finds the statistics of the named domains in a folder, or of all its domains.
 *
 * A folder also keeps statistics of earlier texts, samples and seeds. Only those count that a laboratory's
 * `results.json` names, or from which a service's newest mask was selected, under the domain names used there.
 *
 * @param dir a laboratory's folder or a service's home
 * @throws AppError `not_found` if there are none, or none of a named domain; `mask_base_mismatch` if they belong to
 * another model; `invalid_request` if a domain was merged with others, or if it is ambiguous which of its statistics
 * count
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
      `${dir} has no statistics of a domain '${name}'. ` +
        (nearest === undefined ? `It has: ${known.join(', ') || 'none'}.` : `Did you mean '${nearest}'?`),
      { param: 'domains' },
    )
  }
  if (parts.length === 0) {
    throw new AppError(
      'not_found',
      onDisk.length > 0
        ? `${dir} no longer has the statistics of its last calibration. Run the same laboratory or update again to make them.`
        : `${dir} has no statistics. Give a folder that 'npx copal lab run' wrote, or the home of a service that ran an update.`,
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
      `The statistics of '${lost.domain}' were merged with others and cannot be separated. Use everything that was merged, or calibrate the domain again.`,
      { param: 'domains' },
    )
  }
  return { artifacts: chosen, domains, parts: wanted }
}

/** Returns the model's statistics in a folder, and which of them count if that is recorded. */
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
  // Older services stored them directly in the root.
  const before = await listAllArtifacts(root)
  const service = ofBase([...(await listAllArtifacts(own)), ...before])
  if (service.length > 0) return { artifacts: service, counted: await readCountedParts(own) }

  const folders = await Promise.all((await statisticsFolders(root)).map(listAllArtifacts))
  const [other] = [...ofLab, ...before, ...folders.flat()]
  if (other === undefined) return { artifacts: [], counted: undefined }
  throw new AppError(
    'mask_base_mismatch',
    other.baseSha256 === baseSha256
      ? `The statistics in ${dir} belong to a model with the same linears but another configuration, embedding or tokenizer.`
      : `The statistics in ${dir} belong to another model: their base is ${other.baseSha256}, this model's is ${baseSha256}.`,
  )
}

/**
 * Returns the statistics used by the results in a laboratory's folder; undefined if it has no results of this model.
 */
async function countedPartsOfLab(dir: string, baseSha256: string): Promise<CountedPart[] | undefined> {
  const results = await readResults(dir).catch(() => undefined)
  if (results?.model.baseSha256 !== baseSha256) return undefined
  const { samples, length, seed } = results.settings
  const spec = { baseSha256, samples, length, seed, draw: LAB_DRAW }
  return results.domains.flatMap(({ name: domain, calibration }) =>
    calibration ? [{ domain, id: partId({ ...spec, datasetSha256: calibration.sha256 }) }] : [],
  )
}

function requireOnePartPerDomain(dir: string, parts: readonly ArtifactPart[]): void {
  for (const [domain, same] of Map.groupBy(parts, (part) => part.domain)) {
    if (same.length === 1) continue
    const each = same.map(
      ({ id, datasetSha256, tokens }) =>
        `${id.slice(0, 12)} (${tokens} tokens of text ${datasetSha256.slice(0, 12)})`,
    )
    throw new AppError(
      'invalid_request',
      `${dir} has several statistics of '${domain}' for different texts, samples, lengths or seeds, and does not record ` +
        `which of them to use: ${each.join(', ')}. Run the same laboratory or update again to record it.`,
      { param: 'domains' },
    )
  }
}

function distinctParts(parts: readonly ArtifactPart[]): ArtifactPart[] {
  return [...new Map(parts.map((part) => [part.id, part])).values()]
}
