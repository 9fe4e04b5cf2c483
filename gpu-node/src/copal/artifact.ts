import { createHash } from 'node:crypto'
import { open, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  encodeSafetensors,
  readSafetensorsHeader,
  SafetensorsError,
  safetensorsHeaderBytes,
} from '@copal/shared/mask/safetensors.ts'
import { createScratch, isErrno, publishDirectory, removeScratch } from '../model/scratch.ts'
import type { Values } from './importance.ts'

/** Raised when statistics change their meaning or layout: older artifacts are then calibrated again. */
const FORMAT_VERSION = 1

/** Everything that the statistics of one dataset depend on. */
export interface CalibrationSpec {
  baseSha256: string
  datasetSha256: string
  /** At most `samples` sequences of `length` consecutive tokens, chosen by `seed`. */
  samples: number
  length: number
  seed: number
}

/** The content address of a dataset's statistics: a SHA-256 over everything they depend on. */
export function partId(spec: CalibrationSpec): string {
  const { baseSha256, datasetSha256, samples, length, seed } = spec
  const identity = [FORMAT_VERSION, baseSha256, datasetSha256, samples, length, seed, 'propagation:dense']
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex')
}

/** One dataset's share of an artifact. */
export interface ArtifactPart {
  id: string
  datasetSha256: string
  domain: string
  tokens: number
}

/**
 * Statistics on disk: a directory with `manifest.json` and one safetensors file a decoder block. One part
 * as calibrated holds f32; a merged artifact holds the f64 sum of its parts, which for f32 terms is exact
 * in practice, so that merging never changes a mask.
 *
 * Of the default model (106 million weights in linears) one part takes 0.6 GB, a merged artifact 1.2 GB.
 */
export interface Artifact {
  /** A part's id, or a hash over the ids of the parts. */
  id: string
  dir: string
  baseSha256: string
  parts: readonly ArtifactPart[]
  /** SHA-256 of every tensor, by name, one entry a block. */
  blocks: readonly Readonly<Record<string, string>>[]
}

/** An artifact does not hold what its manifest says: it must be discarded and calibrated again. */
export class DamagedArtifactError extends Error {
  override readonly name = 'DamagedArtifactError'
  readonly artifactId: string

  constructor(artifact: Pick<Artifact, 'id'>, reason: string, options?: ErrorOptions) {
    super(`statistics ${artifact.id} are damaged: ${reason}`, options)
    this.artifactId = artifact.id
  }
}

/** Writes one block's tensors and returns their hashes for the manifest. */
export async function writeBlock(
  dir: string,
  block: number,
  tensors: ReadonlyMap<string, Values>,
): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {}
  const content = new Map<string, { dtype: string; shape: number[]; data: Uint8Array }>()
  for (const [name, values] of tensors) {
    const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    hashes[name] = createHash('sha256').update(data).digest('hex')
    content.set(name, { dtype: values instanceof Float32Array ? 'F32' : 'F64', shape: [values.length], data })
  }
  await writeFile(blockPath(dir, block), encodeSafetensors({ metadata: {}, tensors: content }))
  return hashes
}

/** Writes what makes a directory of block files an artifact; it comes last. */
export async function writeManifest(dir: string, artifact: Omit<Artifact, 'dir'>): Promise<void> {
  const { id, baseSha256, parts, blocks } = artifact
  const manifest = { format_version: FORMAT_VERSION, id, base_sha256: baseSha256, parts, blocks }
  await writeFile(join(dir, 'manifest.json'), JSON.stringify(manifest))
}

/** Moves a finished directory to where artifacts are found; what another process put there first stays, if whole. */
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
 * Reads one tensor of one block and checks its hash.
 *
 * @throws DamagedArtifactError
 */
export async function readStatistic(artifact: Artifact, block: number, name: string): Promise<Values> {
  const expected = artifact.blocks[block]?.[name]
  if (expected === undefined) throw new DamagedArtifactError(artifact, `block ${block} has no ${name}`)
  try {
    const { dtype, data } = await readTensorBytes(blockPath(artifact.dir, block), name)
    if (createHash('sha256').update(data).digest('hex') !== expected) {
      throw new DamagedArtifactError(
        artifact,
        `${name} of block ${block} does not have the hash of the manifest`,
      )
    }
    return dtype === 'F64' ? new Float64Array(data.buffer) : new Float32Array(data.buffer)
  } catch (cause) {
    if (cause instanceof SafetensorsError || isErrno(cause, 'ENOENT')) {
      throw new DamagedArtifactError(artifact, `block ${block} cannot be read`, { cause })
    }
    throw cause
  }
}

/** Every finished artifact of these weights under `dir`, by id; directories that are none are passed over. */
export async function listArtifacts(dir: string, baseSha256: string): Promise<Artifact[]> {
  const names = await readdir(dir).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
  const artifacts = await Promise.all(names.map((name) => readManifest(join(dir, name), name)))
  return artifacts.filter((artifact) => artifact?.baseSha256 === baseSha256) as Artifact[]
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

async function readTensorBytes(
  path: string,
  name: string,
): Promise<{ dtype: string; data: Uint8Array<ArrayBuffer> }> {
  const file = await open(path)
  const read = async (offset: number, bytes: number): Promise<Uint8Array<ArrayBuffer>> => {
    const data = new Uint8Array(bytes)
    const { bytesRead } = await file.read(data, 0, bytes, offset)
    if (bytesRead !== bytes) throw new SafetensorsError(`${path} was cut short`)
    return data
  }
  try {
    const header = readSafetensorsHeader(await read(0, safetensorsHeaderBytes(await read(0, 8))))
    const entry = header.tensors.get(name)
    if (!entry) throw new SafetensorsError(`${path} holds no ${name}`)
    return { dtype: entry.dtype, data: await read(entry.begin, entry.end - entry.begin) }
  } finally {
    await file.close()
  }
}

function blockPath(dir: string, block: number): string {
  return join(dir, `block-${String(block).padStart(4, '0')}.safetensors`)
}
