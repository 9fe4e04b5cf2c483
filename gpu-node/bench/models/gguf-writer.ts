import { open } from 'node:fs/promises'

/** A metadata value; numbers are written as u32 unless marked as f32. */
export type GgufValue = string | number | boolean | { f32: number } | readonly string[] | readonly number[]

/** A tensor to write: `dims` as GGUF lists them (fastest first), bytes in the storage type. */
export interface GgufTensorData {
  type: number
  dims: readonly number[]
  bytes: Uint8Array
}

const U32 = 4
const F32 = 6
const BOOL = 7
const STRING = 8
const ARRAY = 9
const ALIGNMENT = 32

/** Writes a GGUF file of version 3 (ggml's `docs/gguf.md`). */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: ReadonlyMap<string, GgufTensorData>,
): Promise<void> {
  const header = [Buffer.from('GGUF'), u32(3), u64(tensors.size), u64(metadata.size)]
  for (const [key, value] of metadata) header.push(text(key), ...typed(value))
  let offset = 0
  for (const [name, { type, dims, bytes }] of tensors) {
    header.push(text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset))
    offset += bytes.length + padding(bytes.length).length
  }
  const file = await open(path, 'w')
  try {
    for (const bytes of [Buffer.concat(header), ...[...tensors.values()].map((tensor) => tensor.bytes)]) {
      await file.writeFile(bytes)
      await file.writeFile(padding(bytes.length))
    }
  } finally {
    await file.close()
  }
}

function typed(value: GgufValue): Buffer[] {
  if (typeof value === 'string') return [u32(STRING), text(value)]
  if (typeof value === 'number') return [u32(U32), u32(value)]
  if (typeof value === 'boolean') return [u32(BOOL), Buffer.of(value ? 1 : 0)]
  if ('f32' in value) return [u32(F32), f32(value.f32)]
  const items = value.map((item) => (typeof item === 'string' ? text(item) : f32(item)))
  return [u32(ARRAY), u32(typeof value[0] === 'string' ? STRING : F32), u64(items.length), ...items]
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(bytes.length), bytes])
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}

function padding(length: number): Buffer {
  return Buffer.alloc(Math.ceil(length / ALIGNMENT) * ALIGNMENT - length)
}
