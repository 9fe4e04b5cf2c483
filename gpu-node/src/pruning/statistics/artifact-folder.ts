import { createHash } from 'node:crypto'
import { open as openFile, readdir, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { createScratch, removeScratch } from '../../platform/scratch.ts'
import {
  addStatistic,
  listArtifacts,
  publishArtifact,
  statisticLengths,
  statisticsOf,
  writeBlock,
  writeManifest,
  type Artifact,
  type ArtifactPart,
} from './statistics-artifact.ts'
import type { BlockTensor } from './block-file.ts'

/** The result of {@link coverParts} and {@link coverDatasets}. */
export interface Cover {
  /** Artifacts that together hold each available part once. */
  chosen: Artifact[]
  /** Ids of the parts, or hashes of the datasets, that no artifact provides. */
  missing: string[]
}

/**
 * Chooses artifacts that hold each wanted part exactly once and no other part. Merged artifacts come first, so that
 * fewer bytes are read.
 *
 * @param wanted ids of parts
 */
export function coverParts(artifacts: readonly Artifact[], wanted: Iterable<string>): Cover {
  return coverDatasets(artifacts, new Map(Array.from(wanted, (id) => [id, id])))
}

/**
 * Chooses artifacts as {@link coverParts} does, where several parts may hold the same dataset, with all statistics or without
 * some. A dataset is never counted twice. Among artifacts of as many parts, those with fewer statistics come first.
 *
 * @param wanted the dataset of each part that may be chosen, by the id of the part
 */
export function coverDatasets(artifacts: readonly Artifact[], wanted: ReadonlyMap<string, string>): Cover {
  const open = new Set(wanted.values())
  const chosen: Artifact[] = []
  const cheapestFirst = [...artifacts].sort(
    (a, b) =>
      b.parts.length - a.parts.length ||
      Number(statisticsOf(a) === 'all') - Number(statisticsOf(b) === 'all') ||
      (a.id < b.id ? -1 : 1),
  )
  for (const artifact of cheapestFirst) {
    const datasets = artifact.parts.map(({ id }) => wanted.get(id))
    const isOpen = datasets.every((dataset) => dataset !== undefined && open.has(dataset))
    if (datasets.length === 0 || !isOpen || new Set(datasets).size < datasets.length) continue
    for (const dataset of datasets) open.delete(dataset as string)
    chosen.push(artifact)
  }
  return { chosen, missing: [...open] }
}

/**
 * Sums one tensor of one block over artifacts, in f64. The result does not depend on the order of the artifacts, unless they
 * are multiplied, which rounds. Only the sum is in memory.
 *
 * @param factorOf returns what an artifact is multiplied by; default 1
 * @throws DamagedArtifactError when a tensor is missing or does not have its hash
 * @throws RangeError when there are no artifacts
 */
export async function accumulateStatistic<Summed extends Pick<Artifact, 'id' | 'dir' | 'blocks'>>(
  artifacts: readonly Summed[],
  block: number,
  name: string,
  factorOf?: (artifact: Summed) => number,
): Promise<Float64Array<ArrayBuffer>> {
  let sum: Float64Array<ArrayBuffer> | null = null
  const ordered = factorOf ? artifacts : artifacts.toSorted((a, b) => (a.id < b.id ? -1 : 1))
  for (const artifact of ordered) sum = await addStatistic(artifact, block, name, sum, factorOf?.(artifact))
  if (sum === null) throw new RangeError('nothing to accumulate')
  return sum
}

/**
 * Replaces artifacts of disjoint datasets, all with the same statistics, by one artifact that holds their sum. A process
 * that is killed on the way leaves either all of them, or their sum, or (for an instant) both, which {@link coverParts}
 * handles. The sum is on the disk before they are removed, because texts that have expired cannot be calibrated again.
 *
 * @throws DamagedArtifactError when a tensor is missing or does not have its hash
 */
export async function mergeArtifacts(dir: string, artifacts: readonly Artifact[]): Promise<Artifact> {
  const [first, ...rest] = artifacts
  if (!first) throw new RangeError('nothing to merge')
  const parts = artifacts.flatMap((artifact) => artifact.parts).sort((a, b) => (a.id < b.id ? -1 : 1))
  const id = artifactId(parts)
  const scratch = await createScratch(dir)
  try {
    const blocks: Record<string, string>[] = []
    for (const block of first.blocks.keys()) {
      blocks.push(await writeBlock(scratch, block, await summedTensors([first, ...rest], block)))
    }
    await writeManifest(scratch, { id, baseSha256: first.baseSha256, parts, blocks })
    for (const name of await readdir(scratch)) await syncFile(join(scratch, name))
    await publishArtifact(dir, id, scratch)
    for (const artifact of artifacts) await discardArtifact(dir, artifact.id)
    return { id, dir: join(dir, id), baseSha256: first.baseSha256, parts, blocks }
  } finally {
    await removeScratch(scratch)
  }
}

/** Waits until the content of a file is on the disk. */
async function syncFile(path: string): Promise<void> {
  const file = await openFile(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Removes an artifact. Its manifest is removed first, so that a kill in between leaves nothing that looks complete. */
export async function discardArtifact(dir: string, id: string): Promise<void> {
  await rm(join(dir, id, 'manifest.json'), { force: true })
  await rm(join(dir, id), { recursive: true, force: true })
}

/** Sets the time of last use of artifacts, which {@link pruneArtifacts} compares. */
export async function touchArtifacts(artifacts: readonly Artifact[]): Promise<void> {
  const now = new Date()
  for (const artifact of artifacts) await utimes(join(artifact.dir, 'manifest.json'), now, now)
}

/**
 * Removes the artifacts of these weights that are not in `keep`, except the `spare` most recently used ones, because a
 * failed update may be run again.
 *
 * @param keep ids of artifacts
 */
export async function pruneArtifacts(
  dir: string,
  baseSha256: string,
  keep: ReadonlySet<string>,
  spare: number,
): Promise<void> {
  const others = (await listArtifacts(dir, baseSha256)).filter(({ id }) => !keep.has(id))
  const aged = await Promise.all(
    others.map(async ({ id, dir: path }) => ({
      id,
      usedMs: (await stat(join(path, 'manifest.json'))).mtimeMs,
    })),
  )
  aged.sort((a, b) => b.usedMs - a.usedMs)
  for (const { id } of aged.slice(spare)) await discardArtifact(dir, id)
}

async function summedTensors(
  artifacts: readonly [Artifact, ...Artifact[]],
  block: number,
): Promise<BlockTensor[]> {
  return [...(await statisticLengths(artifacts[0], block))].map(([name, length]) => ({
    name,
    dtype: 'F64',
    length,
    load: () => accumulateStatistic(artifacts, block, name),
  }))
}

/** Returns the id of an artifact: that of its only part, or a hash over the ids of its parts, which are sorted. */
export function artifactId(parts: readonly Pick<ArtifactPart, 'id'>[]): string {
  const [first, ...others] = parts
  if (first && others.length === 0) return first.id
  return createHash('sha256')
    .update(JSON.stringify(['merged', ...parts.map(({ id }) => id)]))
    .digest('hex')
}
