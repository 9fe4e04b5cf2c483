let halves: Float32Array | undefined

/** Returns the table of every IEEE half as f32, by its bits: 256 KiB, faster than arithmetic per value. Made at its first use. */
function halfValues(): Float32Array {
  return (halves ??= Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1
    const exponent = (bits >> 10) & 0x1f
    const fraction = bits & 0x3ff
    if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN
    return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
  }))
}

/** Returns the value of an IEEE 754 half. */
export function halfToFloat(bits: number): number {
  return halfValues()[bits]!
}

/** Decodes little-endian halves to f32, exactly. `bytes.length` is even. */
export function halvesToFloats(bytes: Uint8Array): Float32Array {
  const table = halfValues()
  const values = new Float32Array(bytes.length / 2)
  for (let i = 0, at = 0; i < values.length; i++, at += 2) {
    values[i] = table[bytes[at]! | (bytes[at + 1]! << 8)]!
  }
  return values
}

/** Decodes little-endian bfloat16 to f32, exactly: the upper half of the f32 bits. `bytes.length` is even. */
export function bfloatsToFloats(bytes: Uint8Array): Float32Array {
  const bits = new Uint32Array(bytes.length / 2)
  for (let i = 0, at = 0; i < bits.length; i++, at += 2) {
    bits[i] = (bytes[at]! << 16) | (bytes[at + 1]! << 24)
  }
  return new Float32Array(bits.buffer)
}

/** Copies little-endian f32 bytes into an array. `bytes.length` is a multiple of 4. */
export function bytesToFloats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer)
}
