import { createHash } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SafetensorsError } from '@copal/shared/mask/safetensors-container.ts'
import { explainFullDisk } from '../../platform/full-disk.ts'
import { createScratch, publishDirectory, removeScratch } from '../../platform/scratch.ts'
import { isErrno } from '../../platform/errno.ts'
import type { StatisticSet } from './statistic-names.ts'
import { readBlockTensor, readTensorLengths, writeBlockFile, type BlockTensor } from './block-file.ts'

/** Incremented when the meaning or layout of statistics changes. Older artifacts are then calibrated again. */
export const FORMAT_VERSION = 2

/**
 * A way to draw sequences from texts. Each is part of the ids of statistics, so that it must not change: another one needs a
 * name of its own. `shuffled` is that of the laboratory, `stable` that of updates (see `sampleSequences`).
 */
export type Draw = 'shuffled' | 'stable'

/** The inputs of a calibration: everything that the statistics of one dataset depend on. */
export interface CalibrationSpec {
  baseSha256: string
  datasetSha256: string
  /** At most `samples` sequences of `length` consecutive tokens, chosen by `seed`. */
  samples: number
  length: number
  seed: number
  draw: Draw
  /** Default `all`. */
  statistics?: StatisticSet
}

/** Returns the content address of a dataset's statistics: a SHA-256 over everything that they depend on. */
export function partId(spec: CalibrationSpec): string {
  const { baseSha256, datasetSha256, samples, length, seed, draw, statistics = 'all' } = spec
  const identity = [FORMAT_VERSION, baseSha256, datasetSha256, samples, length, seed, 'propagation:dense']
  // The id of all statistics of shuffled texts is that of versions that had no others, so that their artifacts stay valid.
  if (statistics !== 'all') identity.push(`statistics:${statistics}`)
  if (draw !== 'shuffled') identity.push(`draw:${draw}`)
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex')
}

/** The contribution of one dataset to an artifact. */
export interface ArtifactPart {
  id: string
  datasetSha256: string
  domain: string
  tokens: number
}

/**
 * Statistics on disk: a directory with `manifest.json` and one safetensors file per decoder block. An artifact of one part
 * is f32. A merged artifact is the f64 sum of its parts. An f32 has 24 significant bits and an f64 has 53, so sums of n terms
 * are exact, in any order and grouping, as long as for each element the largest and the smallest non-zero term differ by less
 * than a factor of 2^(29 - log2 n). Beyond that a sum is rounded in its last bit, which changes a mask only where two scores
 * were equal to 15 digits.
 *
 * For the default model (106 million weights in linears) one part takes 0.6 GB, 0.2 GB of it for `moments`; a merged artifact
 * takes twice as much.
 */
export interface Artifact {
  /** The id of its only part, or a hash over the ids of its parts. */
  id: string
  dir: string
  baseSha256: string
  parts: readonly ArtifactPart[]
  /** SHA-256 of every tensor by name, one entry per block. */
  blocks: readonly Readonly<Record<string, string>>[]
}

/** Returns which statistics an artifact has. */
export function statisticsOf({ blocks }: Pick<Artifact, 'blocks'>): StatisticSet {
  return Object.keys(blocks[0] ?? {}).some((name) => name.endsWith('.sensitivity')) ? 'all' : 'moments'
}

/** The error of an artifact that does not match its manifest. It must be discarded and calibrated again. */
export class DamagedArtifactError extends Error {
  override readonly name = 'DamagedArtifactError'
  readonly artifactId: string

  constructor(artifact: Pick<Artifact, 'id'>, reason: string, options?: ErrorOptions) {
    super(`statistics ${artifact.id} are damaged: ${reason}`, options)
    this.artifactId = artifact.id
  }
}

/**
 * Writes one block's tensors (see {@link writeBlockFile}) and returns their hashes for the manifest.
 *
 * @throws AppError `internal_error` when the disk is full
 */
export async function writeBlock(
  dir: string,
  block: number,
  tensors: readonly BlockTensor[],
): Promise<Record<string, string>> {
  try {
    return await writeBlockFile(blockPath(dir, block), tensors)
  } catch (error) {
    throw explainFullStatisticsDisk(error, dir)
  }
}

/** Returns an error that explains a full disk to the operator of a calibration; any other error unchanged. */
export function explainFullStatisticsDisk(error: unknown, dir: string): unknown {
  const advice =
    'move COPAL_HOME to a larger disk: the same calibration then goes on at the block that it could not write'
  return explainFullDisk(error, dir, 'for the statistics of a calibration', advice)
}

/** Writes the manifest, which makes a directory of block files an artifact. Call it after all blocks are written. */
export async function writeManifest(dir: string, artifact: Omit<Artifact, 'dir'>): Promise<void> {
  const { id, baseSha256, parts, blocks } = artifact
  const manifest = { format_version: FORMAT_VERSION, id, base_sha256: baseSha256, parts, blocks }
  await writeFile(join(dir, 'manifest.json'), JSON.stringify(manifest))
}

/** Moves a finished directory to its place under `dir`. A complete artifact that is already there stays. */
export async function publishArtifact(dir: string, id: string, finished: string): Promise<void> {
  const scratch = await createScratch(dir)
  try {
    const target = join(dir, id)
    await publishDirectory(
      finished,
      target,
      scratch,
      async () => (await readManifest(target, id)) !== undefined,
    )
    await removeScratch(finished)
  } finally {
    await removeScratch(scratch)
  }
}

/**
 * Adds one tensor of one block to `sum`, reading it in pieces, and checks its hash.
 *
 * @param sum changed in place; null to begin with zeros
 * @param factor multiplies the tensor
 * @returns the sum
 * @throws DamagedArtifactError when the tensor is missing or does not have its hash
 */
export async function addStatistic(
  artifact: Pick<Artifact, 'id' | 'dir' | 'blocks'>,
  block: number,
  name: string,
  sum: Float64Array<ArrayBuffer> | null,
  factor = 1,
): Promise<Float64Array<ArrayBuffer>> {
  const expected = artifact.blocks[block]?.[name]
  if (expected === undefined) throw new DamagedArtifactError(artifact, `block ${block} has no ${name}`)
  let total = sum
  try {
    const found = await readBlockTensor(blockPath(artifact.dir, block), name, (piece, first, length) => {
      total ??= new Float64Array(length)
      for (let i = 0, at = first; i < piece.length; i++, at++) {
        total[at] = (total[at] as number) + factor * (piece[i] as number)
      }
    })
    if (found !== expected) {
      throw new DamagedArtifactError(
        artifact,
        `${name} of block ${block} does not have the hash of the manifest`,
      )
    }
  } catch (cause) {
    throw toDamagedError(cause, artifact, block)
  }
  return total ?? new Float64Array(0)
}

/**
 * Reads the number of elements of every tensor of one block, by name.
 *
 * @throws DamagedArtifactError when the file of the block cannot be read
 */
export async function statisticLengths(
  artifact: Pick<Artifact, 'id' | 'dir'>,
  block: number,
): Promise<ReadonlyMap<string, number>> {
  try {
    return await readTensorLengths(blockPath(artifact.dir, block))
  } catch (cause) {
    throw toDamagedError(cause, artifact, block)
  }
}

/** Lists the finished artifacts of these weights under `dir`. Other directories are ignored. */
export async function listArtifacts(dir: string, baseSha256: string): Promise<Artifact[]> {
  return (await listAllArtifacts(dir)).filter((artifact) => artifact.baseSha256 === baseSha256)
}

/** Lists the finished artifacts of all weights under `dir`. */
export async function listAllArtifacts(dir: string): Promise<Artifact[]> {
  const names = await readdir(dir).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
  const artifacts = await Promise.all(names.map((name) => readManifest(join(dir, name), name)))
  return artifacts.filter((artifact) => artifact !== undefined)
}

async function readManifest(dir: string, id: string): Promise<Artifact | undefined> {
  try {
    const manifest = JSON.parse(await readFile(join(dir, 'manifest.json'), 'utf8')) as {
      format_version: number
      id: string
      base_sha256: string
      parts: ArtifactPart[]
      blocks: Record<string, string>[]
    }
    if (manifest.format_version !== FORMAT_VERSION || manifest.id !== id) return undefined
    return { id, dir, baseSha256: manifest.base_sha256, parts: manifest.parts, blocks: manifest.blocks }
  } catch {
    return undefined
  }
}

function toDamagedError(cause: unknown, artifact: Pick<Artifact, 'id'>, block: number): unknown {
  const broken = cause instanceof SafetensorsError || isErrno(cause, 'ENOENT')
  return broken ? new DamagedArtifactError(artifact, `block ${block} cannot be read`, { cause }) : cause
}

/** Returns the path of the file of one block in the folder of an artifact. */
export function blockPath(dir: string, block: number): string {
  return join(dir, `block-${String(block).padStart(4, '0')}.safetensors`)
}
