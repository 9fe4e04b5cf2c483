import { open, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import {
  readSafetensorsHeader,
  SafetensorsError,
  safetensorsHeaderBytes,
} from '@copal/shared/mask/safetensors-container.ts'
import type { Checkpoint } from './checkpoint.ts'
import { bfloatsToFloats, bytesToFloats, halvesToFloats } from './float-formats.ts'
import { readExactly } from '../../platform/positional-read.ts'
import { readJson } from '../tokenizer/tokenizer-files.ts'

/** One tensor of a safetensors file; `offset` from the start of the file. */
interface TensorEntry {
  dtype: string
  shape: readonly number[]
  offset: number
  bytes: number
}

/**
 * Reads the tensor table of an open safetensors file. The header is also checked against the file's length, so that a
 * truncated file is never accepted.
 *
 * @throws AppError `unsupported_model` saying what is wrong with the file
 */
export async function readTensorEntries(file: FileHandle, path: string): Promise<Map<string, TensorEntry>> {
  try {
    const { size } = await file.stat()
    const headerBytes = safetensorsHeaderBytes(await readExactly(file, 0, Math.min(8, size), path))
    if (headerBytes > size) throw new SafetensorsError(`its header claims ${headerBytes - 8} bytes`)
    const { tensors, fileBytes } = readSafetensorsHeader(await readExactly(file, 0, headerBytes, path))
    if (fileBytes !== size) {
      throw new SafetensorsError(`it has ${size} bytes where its header describes ${fileBytes}`)
    }
    return new Map(
      [...tensors].map(([name, { dtype, shape, begin, end }]) => [
        name,
        { dtype, shape, offset: begin, bytes: end - begin },
      ]),
    )
  } catch (cause) {
    if (!(cause instanceof SafetensorsError)) throw cause
    throw new AppError(
      'unsupported_model',
      `${path} is not a valid safetensors file: ${cause.message}. Fetch or convert it again.`,
      { cause },
    )
  }
}

const DECODERS: Record<string, (bytes: Uint8Array) => Float32Array> = {
  F32: bytesToFloats,
  F16: halvesToFloats,
  BF16: bfloatsToFloats,
}

/**
 * Opens one safetensors file, or all the files that a `model.safetensors.index.json` names.
 *
 * @param path a `.safetensors` file or the index
 * @throws AppError `unsupported_model`: broken or missing file, a tensor in two files, dtype other than F32, F16, BF16
 */
export async function openSafetensors(path: string): Promise<Checkpoint> {
  const files = new Map<string, FileHandle>()
  const entries = new Map<string, TensorEntry & { file: FileHandle }>()
  const close = async () => {
    await Promise.all([...files.values()].map((file) => file.close()))
  }
  try {
    for (const shard of await safetensorsFiles(path)) {
      const file = await openShard(shard)
      files.set(shard, file)
      for (const [name, entry] of await readTensorEntries(file, shard)) {
        if (DECODERS[entry.dtype] === undefined) {
          throw new AppError(
            'unsupported_model',
            `${shard}: tensor ${name} is stored as ${entry.dtype}. Supported are F32, F16 and BF16.`,
          )
        }
        if (entries.has(name)) {
          throw new AppError(
            'unsupported_model',
            `${shard} holds tensor ${name}, which another file of ${path} holds too. Fetch or convert the model again.`,
          )
        }
        entries.set(name, { ...entry, file })
      }
    }
  } catch (error) {
    await close()
    throw error
  }
  return {
    shapes: new Map([...entries].map(([name, { shape }]) => [name, shape])),
    async readRows(name, first, rows) {
      const entry = entries.get(name)
      if (entry === undefined) throw new RangeError(`no tensor ${name} in ${path}`)
      const rowCount = entry.shape.length < 2 ? 1 : entry.shape[0]!
      const rowBytes = entry.bytes / rowCount
      const bytes = await readExactly(entry.file, entry.offset + first * rowBytes, rows * rowBytes, path)
      return DECODERS[entry.dtype]!(bytes)
    },
    close,
  }
}

/**
 * Returns the weight files of `path`: the file itself, or the sorted shards that an index names.
 *
 * @throws AppError `unsupported_model` when the index is not one
 */
export async function safetensorsFiles(path: string): Promise<string[]> {
  if (!path.endsWith('.json')) return [path]
  const map = (await readJson(path))?.['weight_map']
  const names: unknown[] = typeof map === 'object' && map !== null ? Object.values(map) : []
  // Shards lie beside their index. A name with a path in it could read any file on the machine.
  if (names.length === 0 || !names.every((name) => typeof name === 'string' && basename(name) === name)) {
    throw new AppError('unsupported_model', `${path} has no usable weight_map. Fetch it again.`)
  }
  return [...new Set(names as string[])].sort().map((name) => join(dirname(path), name))
}

async function openShard(path: string): Promise<FileHandle> {
  try {
    return await open(path)
  } catch (cause) {
    throw new AppError(
      'unsupported_model',
      `${path} is missing or cannot be read: the model is incomplete. Fetch it again.`,
      {
        cause,
      },
    )
  }
}
