import { open, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import type { Checkpoint } from './checkpoint.ts'
import { bfloatsToFloats, bytesToFloats, halvesToFloats } from './float-formats.ts'
import { readExactly } from './positional-read.ts'
import { readJson } from './tokenizer-files.ts'

/** One tensor of a safetensors file; `offset` from the start of the file. */
interface SafetensorsEntry {
  dtype: string
  shape: readonly number[]
  offset: number
  bytes: number
}

/** The header of a safetensors file. */
export interface SafetensorsHeader {
  tensors: ReadonlyMap<string, SafetensorsEntry>
  metadata: Readonly<Record<string, string>>
  /** Length that the file must have. */
  fileBytes: number
}

const ELEMENT_BYTES: Record<string, number> = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
}

/** The format's own limit on the header (100 MB). */
const MAX_HEADER_BYTES = 100_000_000

/**
 * Reads and checks the header of an open safetensors file, against its length too, so that a file
 * cut short is never taken for a whole one.
 *
 * @throws AppError `unsupported_model` saying what is wrong with the file
 */
export async function readSafetensorsHeader(file: FileHandle, path: string): Promise<SafetensorsHeader> {
  const broken = (what: string, cause?: unknown) =>
    new AppError(
      'unsupported_model',
      `${path} is not a valid safetensors file: ${what}. Fetch or convert it again.`,
      {
        cause,
      },
    )
  const { size } = await file.stat()
  if (size < 8) throw broken(`it has ${size} bytes`)
  const jsonBytes = Number((await readExactly(file, 0, 8, path)).readBigUInt64LE())
  if (jsonBytes > Math.min(MAX_HEADER_BYTES, size - 8)) throw broken(`its header claims ${jsonBytes} bytes`)
  let json: unknown
  try {
    json = JSON.parse((await readExactly(file, 8, jsonBytes, path)).toString('utf8'))
  } catch (cause) {
    throw broken('its header is not JSON', cause)
  }
  if (typeof json !== 'object' || json === null) throw broken('its header is not an object')
  const dataOffset = 8 + jsonBytes
  const tensors = new Map<string, SafetensorsEntry>()
  let metadata: Record<string, string> = {}
  let fileBytes = dataOffset
  for (const [name, entry] of Object.entries(json)) {
    if (name === '__metadata__') {
      metadata = entry as Record<string, string>
      continue
    }
    const tensor = parseEntry(entry, dataOffset)
    if (typeof tensor === 'string') throw broken(`tensor ${name} ${tensor}`)
    fileBytes = Math.max(fileBytes, tensor.offset + tensor.bytes)
    tensors.set(name, tensor)
  }
  if (fileBytes !== size) throw broken(`it has ${size} bytes where its header describes ${fileBytes}`)
  return { tensors, metadata, fileBytes }
}

/** A tensor of the header, or what is wrong with it. */
function parseEntry(entry: unknown, dataOffset: number): SafetensorsEntry | string {
  const { dtype, shape, data_offsets: range } = (entry ?? {}) as Record<string, unknown>
  const size = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
  if (typeof dtype !== 'string' || ELEMENT_BYTES[dtype] === undefined)
    return `has dtype ${JSON.stringify(dtype)}`
  if (!Array.isArray(shape) || !shape.every(size)) return `has shape ${JSON.stringify(shape)}`
  if (!Array.isArray(range) || range.length !== 2 || !range.every(size)) {
    return `has data_offsets ${JSON.stringify(range)}`
  }
  const [start, end] = range as [number, number]
  const bytes = shape.reduce((product, length) => product * length, ELEMENT_BYTES[dtype])
  if (end - start !== bytes) return `holds ${end - start} bytes where its shape needs ${bytes}`
  return { dtype, shape, offset: dataOffset + start, bytes }
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
 * @throws AppError `unsupported_model`: broken or missing file, dtype other than F32, F16, BF16
 */
export async function openSafetensors(path: string): Promise<Checkpoint> {
  const files = new Map<string, FileHandle>()
  const entries = new Map<string, SafetensorsEntry & { file: FileHandle }>()
  const close = async () => {
    await Promise.all([...files.values()].map((file) => file.close()))
  }
  try {
    for (const shard of await safetensorsFiles(path)) {
      const file = await openShard(shard)
      files.set(shard, file)
      const { tensors } = await readSafetensorsHeader(file, shard)
      for (const [name, entry] of tensors) {
        if (DECODERS[entry.dtype] === undefined) {
          throw new AppError(
            'unsupported_model',
            `${shard}: tensor ${name} is stored as ${entry.dtype}. Supported are F32, F16 and BF16.`,
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
 * The weight files behind `path`: itself, or the shards that an index names, sorted.
 *
 * @throws AppError `unsupported_model` when the index is not one
 */
export async function safetensorsFiles(path: string): Promise<string[]> {
  if (!path.endsWith('.json')) return [path]
  const map = (await readJson(path))?.['weight_map']
  const names: unknown[] = typeof map === 'object' && map !== null ? Object.values(map) : []
  // Shards lie beside their index; a name with a path in it could read any file of the machine.
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
