import { createHash } from 'node:crypto'
import { rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { createScratch, removeScratch } from '../../platform/scratch.ts'
import {
  addStatistic,
  listArtifacts,
  publishArtifact,
  statisticLengths,
  writeBlock,
  writeManifest,
  type Artifact,
  type ArtifactPart,
} from './statistics-artifact.ts'
import type { BlockTensor } from './block-file.ts'

/** Which artifacts add up to the wanted parts, and the parts that none of them has. */
export interface Cover {
  chosen: Artifact[]
  missing: string[]
}

/**
 * Chooses artifacts that hold each wanted part exactly once and no other part; merged ones first, so that
 * the fewest bytes are read.
 */
export function coverParts(artifacts: readonly Artifact[], wanted: Iterable<string>): Cover {
  const open = new Set(wanted)
  const chosen: Artifact[] = []
  const widestFirst = [...artifacts].sort((a, b) => b.parts.length - a.parts.length || (a.id < b.id ? -1 : 1))
  for (const artifact of widestFirst) {
    if (!artifact.parts.length || !artifact.parts.every(({ id }) => open.has(id))) continue
    for (const { id } of artifact.parts) open.delete(id)
    chosen.push(artifact)
  }
  return { chosen, missing: [...open] }
}

/**
 * The sum of one tensor of one block over artifacts, in f64. It does not depend on the order in which they
 * are given. Takes the memory of the sum alone.
 *
 * @throws DamagedArtifactError
 */
export async function accumulateStatistic(
  artifacts: readonly Pick<Artifact, 'id' | 'dir' | 'blocks'>[],
  block: number,
  name: string,
): Promise<Float64Array<ArrayBuffer>> {
  let sum: Float64Array<ArrayBuffer> | null = null
  for (const artifact of [...artifacts].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    sum = await addStatistic(artifact, block, name, sum)
  }
  if (sum === null) throw new RangeError('nothing to accumulate')
  return sum
}

/**
 * Replaces artifacts of disjoint datasets by one that holds their sum, block by block, and removes them.
 * Killed at any point, it leaves either all of them or their sum (for an instant both, which
 * {@link coverParts} copes with).
 *
 * @throws DamagedArtifactError
 */
export async function mergeArtifacts(dir: string, artifacts: readonly Artifact[]): Promise<Artifact> {
  const [first, ...rest] = artifacts
  if (!first) throw new RangeError('nothing to merge')
  const parts = artifacts.flatMap((artifact) => artifact.parts).sort((a, b) => (a.id < b.id ? -1 : 1))
  const id = mergedId(parts)
  const scratch = await createScratch(dir)
  try {
    const blocks: Record<string, string>[] = []
    for (const block of first.blocks.keys()) {
      blocks.push(await writeBlock(scratch, block, await summedTensors([first, ...rest], block)))
    }
    await writeManifest(scratch, { id, baseSha256: first.baseSha256, parts, blocks })
    await publishArtifact(dir, id, scratch)
    for (const artifact of artifacts) await discardArtifact(dir, artifact.id)
    return { id, dir: join(dir, id), baseSha256: first.baseSha256, parts, blocks }
  } finally {
    await removeScratch(scratch)
  }
}

/** Removes an artifact; its manifest first, so that a kill in between leaves nothing that looks whole. */
export async function discardArtifact(dir: string, id: string): Promise<void> {
  await rm(join(dir, id, 'manifest.json'), { force: true })
  await rm(join(dir, id), { recursive: true, force: true })
}

/** Notes that artifacts were used, for {@link pruneArtifacts}. */
export async function touchArtifacts(artifacts: readonly Artifact[]): Promise<void> {
  const now = new Date()
  for (const artifact of artifacts) await utimes(join(artifact.dir, 'manifest.json'), now, now)
}

/**
 * Removes the artifacts of these weights that are not in `keep`, except the `spare` most recently used:
 * those are of updates that may be tried again.
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

function mergedId(parts: readonly ArtifactPart[]): string {
  return createHash('sha256')
    .update(JSON.stringify(['merged', ...parts.map(({ id }) => id)]))
    .digest('hex')
}
