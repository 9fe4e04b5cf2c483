import { createHash } from 'node:crypto'
import { open, rm, type FileHandle } from 'node:fs/promises'
import {
  readSafetensorsHeader,
  SafetensorsError,
  safetensorsHeaderBytes,
  type SafetensorsHeader,
} from '@copal/shared/mask/safetensors-container.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import type { Values } from './values.ts'

/** Bytes that are hashed, read or written at a time. */
const PIECE_BYTES = 4 * 2 ** 20

/** One tensor of a block's statistics, to be written. */
export interface BlockTensor {
  name: string
  dtype: 'F32' | 'F64'
  /** Number of elements. */
  length: number
  /** Returns the values. Their memory must stay unchanged until the next tensor is loaded. */
  load(): Values | Promise<Values>
}

/**
 * Writes a safetensors file of vectors, in the given order. One tensor is in memory at a time. When writing fails, for
 * example because the disk is full, the file is removed.
 *
 * @param tensors all of one dtype, so that each is aligned to its element size
 * @returns SHA-256 of each tensor's bytes, by name
 */
export async function writeBlockFile(
  path: string,
  tensors: readonly BlockTensor[],
): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {}
  try {
    const file = await open(path, 'w')
    try {
      await file.writeFile(header(tensors))
      for (const tensor of tensors) hashes[tensor.name] = await writeHashed(file, await tensor.load())
    } finally {
      await file.close()
    }
  } catch (error) {
    await rm(path, { force: true })
    throw error
  }
  return hashes
}

/**
 * Reads one tensor in pieces and hashes them.
 *
 * @param use called with each piece, the index of its first element and the number of elements of the tensor; a piece is
 * valid during the call only
 * @returns SHA-256 of the tensor's bytes; the caller must compare it before it trusts the values
 * @throws SafetensorsError when the file is truncated or does not contain the tensor
 */
export async function readBlockTensor(
  path: string,
  name: string,
  use: (piece: Values, first: number, length: number) => void,
): Promise<string> {
  const file = await open(path)
  try {
    const entry = (await readHeader(file, path)).get(name)
    if (!entry) throw new SafetensorsError(`${path} holds no ${name}`)
    const { dtype, begin, end } = entry
    const [elementBytes, Typed] = dtype === 'F64' ? [8, Float64Array] : [4, Float32Array]
    const buffer = new Uint8Array(Math.min(PIECE_BYTES, end - begin))
    const hash = createHash('sha256')
    for (let at = begin; at < end; at += buffer.length) {
      const piece = buffer.subarray(0, Math.min(buffer.length, end - at))
      await readAll(file, path, piece, at)
      hash.update(piece)
      const values = new Typed(piece.buffer, 0, piece.length / elementBytes)
      use(values, (at - begin) / elementBytes, (end - begin) / elementBytes)
    }
    freeMemory(buffer)
    return hash.digest('hex')
  } finally {
    await file.close()
  }
}

/**
 * Reads the number of elements of every tensor, by name.
 *
 * @throws SafetensorsError when the file is not a safetensors file
 */
export async function readTensorLengths(path: string): Promise<ReadonlyMap<string, number>> {
  const file = await open(path)
  try {
    const tensors = [...(await readHeader(file, path))]
    return new Map(tensors.map(([name, { shape }]) => [name, shape.reduce((a, b) => a * b, 1)]))
  } finally {
    await file.close()
  }
}

/** Writes the bytes of `values` at the current position of the file, and returns their SHA-256. */
export async function writeHashed(file: FileHandle, values: Values): Promise<string> {
  const hash = createHash('sha256')
  for (const piece of piecesOf(values)) {
    hash.update(piece)
    // `FileHandle.writeFile` writes at the current position, and writes all bytes.
    await file.writeFile(piece)
  }
  return hash.digest('hex')
}

/** Returns the SHA-256 of the bytes of `values`. */
export function hashOf(values: Values): string {
  const hash = createHash('sha256')
  for (const piece of piecesOf(values)) hash.update(piece)
  return hash.digest('hex')
}

/** Returns the bytes of `values` in pieces, because a hash takes less than 2 GiB at a time. */
function* piecesOf(values: Values): Generator<Uint8Array> {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES)
}

async function readHeader(file: FileHandle, path: string): Promise<SafetensorsHeader['tensors']> {
  const prefix = new Uint8Array(8)
  await readAll(file, path, prefix, 0)
  const bytes = new Uint8Array(safetensorsHeaderBytes(prefix))
  await readAll(file, path, bytes, 0)
  return readSafetensorsHeader(bytes).tensors
}

async function readAll(file: FileHandle, path: string, into: Uint8Array, offset: number): Promise<void> {
  const { bytesRead } = await file.read(into, 0, into.length, offset)
  if (bytesRead !== into.length) throw new SafetensorsError(`${path} was cut short`)
}

/** Returns the length prefix and the header, padded to a multiple of 8 bytes. */
function header(tensors: readonly BlockTensor[]): Uint8Array {
  const entries: Record<string, unknown> = {}
  let offset = 0
  for (const { name, dtype, length } of tensors) {
    const end = offset + length * (dtype === 'F64' ? 8 : 4)
    entries[name] = { dtype, shape: [length], data_offsets: [offset, end] }
    offset = end
  }
  const json = Buffer.from(JSON.stringify(entries))
  const bytes = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  bytes.writeBigUInt64LE(BigInt(bytes.length - 8))
  json.copy(bytes, 8)
  return bytes
}
