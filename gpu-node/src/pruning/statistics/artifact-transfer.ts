import { createHash } from 'node:crypto'
import { openAsBlob } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { STATISTICS_PIECE_BYTES, type StatisticsManifest } from '@copal/shared/wire/statistics-manifest.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import { writeFully } from '../../platform/positional-write.ts'
import { createScratch, removeScratch } from '../../platform/scratch.ts'
import { artifactId } from './artifact-folder.ts'
import { readBlockTensor, readTensorLengths } from './block-file.ts'
import { statisticTensorSizes } from './statistic-names.ts'
import {
  blockPath,
  FORMAT_VERSION,
  publishArtifact,
  statisticsOf,
  writeManifest,
  type Artifact,
} from './statistics-artifact.ts'

type StoredBlock = StatisticsManifest['blocks'][number]
/** Returns the bytes of a piece as they arrive, and fails when there are more than the piece has. */
type FetchPiece = (piece: StoredBlock['pieces'][number]) => Promise<AsyncIterable<Uint8Array>>

/** Runs a part of the work, and repeats it after temporary failures. */
type Retry = <T>(part: () => Promise<T>) => Promise<T>

/** More than the header of a block's file needs. */
const MAX_HEADER_BYTES = 2 ** 20

/** Statistics from the gateway that this node cannot use. It calibrates instead. */
export class UnusableStatisticsError extends Error {
  override readonly name = 'UnusableStatisticsError'
}

/**
 * Sends the files of an artifact piece by piece, and returns the manifest that describes them.
 *
 * @param send stores one piece under its SHA-256; sending a piece again must be harmless
 * @param pieceBytes for tests
 */
export async function sendArtifact(
  artifact: Artifact,
  model: string,
  send: (sha256: string, piece: Blob) => Promise<void>,
  pieceBytes = STATISTICS_PIECE_BYTES,
): Promise<StatisticsManifest> {
  const { id, dir, baseSha256, parts } = artifact
  const blocks: StatisticsManifest['blocks'] = []
  for (const [block, tensors] of artifact.blocks.entries()) {
    const file = await openAsBlob(blockPath(dir, block))
    const pieces = []
    for (let begin = 0; begin < file.size; begin += pieceBytes) {
      const piece = file.slice(begin, begin + pieceBytes)
      const sha256 = await hashOf(piece)
      await send(sha256, piece)
      pieces.push({ sha256, bytes: piece.size })
    }
    blocks.push({ tensors, pieces })
  }
  return {
    formatVersion: FORMAT_VERSION,
    artifact: id,
    model,
    baseSha256,
    domain: parts[0]?.domain ?? '',
    parts: parts.map((part) => ({ id: part.id, datasetSha256: part.datasetSha256, tokens: part.tokens })),
    blocks,
  }
}

/**
 * Writes an artifact that another node stored, checks every tensor against its hash, and publishes it under `dir`.
 *
 * @throws UnusableStatisticsError when it is damaged, or is not what its manifest says
 */
export async function receiveArtifact(
  dir: string,
  manifest: StatisticsManifest,
  config: LlamaConfig,
  fetchPiece: FetchPiece,
  retry: Retry = (part) => part(),
): Promise<Artifact> {
  const { artifact: id, baseSha256, domain } = manifest
  const parts = manifest.parts.map((part) => ({ ...part, domain })).toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const blocks = manifest.blocks.map(({ tensors }) => tensors)
  if (
    manifest.formatVersion !== FORMAT_VERSION ||
    artifactId(parts) !== id ||
    blocks.length !== config.layers
  )
    throw new UnusableStatisticsError(`the manifest of the statistics ${id} is not that of this model`)
  const expected = statisticTensorSizes(config, statisticsOf({ blocks }))
  const scratch = await createScratch(dir)
  try {
    for (const [block, { tensors, pieces }] of manifest.blocks.entries()) {
      requireExpected(id, expected, tensors, pieces)
      const path = blockPath(scratch, block)
      await writePieces(path, pieces, fetchPiece, retry)
      await checkBlock(path, tensors, expected)
    }
    const artifact = { id, baseSha256, parts, blocks }
    await writeManifest(scratch, artifact)
    await publishArtifact(dir, id, scratch)
    return { ...artifact, dir: join(dir, id) }
  } finally {
    await removeScratch(scratch)
  }
}

/** Checks before a download that a block has the tensors of this model, and is no larger than they are in f64. */
function requireExpected(
  id: string,
  expected: ReadonlyMap<string, number>,
  tensors: StoredBlock['tensors'],
  pieces: StoredBlock['pieces'],
): void {
  const elements = [...expected.values()].reduce((sum, count) => sum + count, 0)
  const bytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0)
  const names = Object.keys(tensors)
  if (
    names.length === expected.size &&
    names.every((name) => expected.has(name)) &&
    bytes <= 8 * elements + MAX_HEADER_BYTES
  )
    return
  throw new UnusableStatisticsError(`the statistics ${id} do not have the tensors of this model`)
}

async function writePieces(
  path: string,
  pieces: StoredBlock['pieces'],
  fetchPiece: FetchPiece,
  retry: Retry,
): Promise<void> {
  const file = await open(path, 'w')
  try {
    let begin = 0
    for (const piece of pieces) {
      const sha256 = await retry(async () => {
        const hash = createHash('sha256')
        let position = begin
        for await (const chunk of await fetchPiece(piece)) {
          hash.update(chunk)
          await writeFully(file, chunk, position)
          position += chunk.length
        }
        return hash.digest('hex')
      })
      if (sha256 !== piece.sha256)
        throw new UnusableStatisticsError(`piece ${piece.sha256} was damaged in storage or in transit`)
      begin += piece.bytes
    }
  } finally {
    await file.close()
  }
}

async function checkBlock(
  path: string,
  tensors: StoredBlock['tensors'],
  expected: ReadonlyMap<string, number>,
): Promise<void> {
  try {
    const lengths = await readTensorLengths(path)
    for (const [name, hash] of Object.entries(tensors)) {
      if (lengths.get(name) !== expected.get(name) || (await readBlockTensor(path, name, () => {})) !== hash)
        throw new UnusableStatisticsError(`${name} is not what the manifest says`)
    }
  } catch (cause) {
    if (cause instanceof UnusableStatisticsError) throw cause
    throw new UnusableStatisticsError('a block is no file of statistics', { cause })
  }
}

async function hashOf(bytes: Blob): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of bytes.stream()) hash.update(chunk)
  return hash.digest('hex')
}
