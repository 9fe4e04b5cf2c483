import { writeFile } from 'node:fs/promises'

/** How the writer stores f32 values. */
export type StoredDtype = 'F32' | 'F16' | 'BF16'

/** One tensor to write, row-major. */
export interface StoredTensor {
  shape: readonly number[]
  values: Float32Array
}

/** Writes a safetensors file (8-byte header length, JSON header, tensors one after another). */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  dtype: StoredDtype = 'F32',
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  const bodies: Uint8Array[] = []
  let offset = 0
  for (const [name, { shape, values }] of tensors) {
    const body = storedBytes(values, dtype)
    header[name] = { dtype, shape, data_offsets: [offset, offset + body.length] }
    bodies.push(body)
    offset += body.length
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  await writeFile(path, Buffer.concat([length, json, ...bodies]))
}

/** Returns f32 values as little-endian bytes of `dtype`, rounded to nearest even. */
export function storedBytes(values: Float32Array, dtype: StoredDtype): Uint8Array {
  const bytes = Buffer.alloc(values.length * (dtype === 'F32' ? 4 : 2))
  values.forEach((value, index) => {
    if (dtype === 'F32') bytes.writeFloatLE(value, index * 4)
    else bytes.writeUInt16LE(dtype === 'BF16' ? bfloat16Bits(value) : float16Bits(value), index * 2)
  })
  return bytes
}

/** Returns the bf16 nearest to a finite f32, as bits. */
export function bfloat16Bits(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

/** Returns the IEEE half nearest to a value, as bits. Beyond the range it is infinity. */
export function float16Bits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const magnitude = Math.abs(value)
  if (magnitude >= 65520) return sign | 0x7c00
  const exponent = magnitude < 2 ** -14 ? -14 : Math.floor(Math.log2(magnitude))
  // In units of the last place: 10 bits of fraction below the leading one.
  const scaled = magnitude / 2 ** (exponent - 10)
  const floor = Math.floor(scaled)
  const rest = scaled - floor
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor
  // Adding the biased exponent lets a carry out of the fraction move to the next exponent.
  return magnitude < 2 ** -14 ? sign | rounded : sign | (((exponent + 15) << 10) + (rounded - 1024))
}
