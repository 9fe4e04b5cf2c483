import { open, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LlamaConfig } from '../config/llama-config.ts'
import type { DenseMaster, MasterTensor } from './dense-model.ts'
import { modelTensors } from '../formats/checkpoint.ts'
import { fileState, sha256File } from '../../platform/file-digest.ts'
import { readTensorEntries } from '../formats/safetensors.ts'

/** Version of the conversion. Raising it makes older masters invalid, so that they are converted again. */
export const MASTER_FORMAT_VERSION = 1

/** Manifest beside a master, with which the master can be trusted without reading it. */
export interface MasterManifest {
  format_version: number
  source_sha256: string
  base_sha256: string
  /** SHA-256 of the whole file. */
  file_sha256: string
  size_bytes: number
  config: LlamaConfig
}

/** Names of the two files in a master directory. */
export function masterPaths(dir: string): { data: string; manifest: string; state: string } {
  return {
    data: join(dir, 'dense.safetensors'),
    manifest: join(dir, 'manifest.json'),
    state: join(dir, 'verified-state'),
  }
}

/** Alignment of tensors, so that they can be mapped and read with any vector width. */
const ALIGNMENT_BYTES = 4096

/**
 * Returns the padded header of a master file and the location of each tensor: matrices in forward order, then the norms,
 * whose odd lengths would break the alignment of matrices.
 */
export function masterLayout(
  config: LlamaConfig,
  metadata: Record<string, string>,
): { header: Buffer; tensors: Map<string, MasterTensor>; fileBytes: number } {
  const header: Record<string, unknown> = { __metadata__: metadata }
  const relative = new Map<string, MasterTensor>()
  let offset = 0
  const tensors = modelTensors(config)
  const ordered = [
    ...tensors.filter(({ shape }) => shape.length > 1),
    ...tensors.filter(({ shape }) => shape.length < 2),
  ]
  for (const { name, shape } of ordered) {
    const bytes = shape.reduce((product, size) => product * size, 4)
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + bytes] }
    relative.set(name, { shape, offset, bytes })
    offset += bytes
  }
  const json = Buffer.from(JSON.stringify(header))
  // Trailing spaces are allowed by the format and move the data to a page border.
  const dataOffset = Math.ceil((8 + json.length) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
  const padded = Buffer.alloc(dataOffset, ' ')
  padded.writeBigUInt64LE(BigInt(dataOffset - 8))
  json.copy(padded, 8)
  return {
    header: padded,
    tensors: new Map(
      [...relative].map(([name, tensor]) => [name, { ...tensor, offset: dataOffset + tensor.offset }]),
    ),
    fileBytes: dataOffset + offset,
  }
}

/**
 * Opens a finished master directory.
 *
 * Cheap when the data file has not changed since it was last verified; otherwise, or when `thorough`, every byte is hashed.
 *
 * @returns `undefined` when there is none, or it is damaged or of another version: it must be made (again)
 */
export async function openMasterDirectory(
  dir: string,
  config: LlamaConfig,
  options: { thorough?: boolean; signal?: AbortSignal | undefined } = {},
): Promise<DenseMaster | undefined> {
  const paths = masterPaths(dir)
  try {
    const manifest = JSON.parse(await readFile(paths.manifest, 'utf8')) as MasterManifest
    if (manifest.format_version !== MASTER_FORMAT_VERSION) return undefined
    if ((await stat(paths.data)).size !== manifest.size_bytes) return undefined
    const state = await fileState(paths.data)
    if (options.thorough === true || (await readFile(paths.state, 'utf8').catch(() => '')) !== state) {
      const found = await sha256File(paths.data, { signal: options.signal })
      if (found !== manifest.file_sha256) return undefined
      // A cache that cannot be written is still usable; it only opens more slowly.
      await writeFile(paths.state, state).catch(() => undefined)
    }
    const tensors = await readLayout(paths.data)
    const complete = modelTensors(config).every(
      ({ name, shape }) => tensors.get(name)?.shape.join() === shape.join(),
    )
    return complete ? { path: paths.data, tensors, baseSha256: manifest.base_sha256 } : undefined
  } catch (error) {
    options.signal?.throwIfAborted()
    // Missing, unreadable or damaged: the caller converts it again and reports what prevents that.
    if (error instanceof Error) return undefined
    throw error
  }
}

async function readLayout(path: string): Promise<Map<string, MasterTensor>> {
  const file = await open(path)
  try {
    const tensors = await readTensorEntries(file, path)
    return new Map([...tensors].map(([name, { shape, offset, bytes }]) => [name, { shape, offset, bytes }]))
  } finally {
    await file.close()
  }
}
