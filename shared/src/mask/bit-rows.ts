/**
 * Bit rows as mask files store them: row r starts at byte `r · ceil(cols/8)`, and bit `j % 8` (least significant first)
 * of its byte `⌊j/8⌋` is column j.
 */

const POPCOUNT = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0
  for (let rest = byte; rest; rest >>= 1) count += rest & 1
  return count
})

/** Returns the bytes that one row of `cols` bits takes. */
export function rowBytes(cols: number): number {
  return Math.ceil(cols / 8)
}

/** Counts the set bits of `bits[begin … end)`; the bounds are bytes. */
export function countBits(bits: Uint8Array, begin = 0, end = bits.length): number {
  let count = 0
  for (let i = begin; i < end; i++) count += POPCOUNT[bits[i] as number] as number
  return count
}

/** Counts the bits in which `a` and `b`, of equal length, differ. */
export function countDifferingBits(a: Uint8Array, b: Uint8Array): number {
  let count = 0
  for (let i = 0; i < a.length; i++) count += POPCOUNT[(a[i] as number) ^ (b[i] as number)] as number
  return count
}

/** Returns whether all padding bits of `row`, those from column `cols` on, are zero. */
export function tailIsZero(row: Uint8Array, cols: number): boolean {
  const used = cols % 8
  return used === 0 || (row[row.length - 1] as number) >> used === 0
}
