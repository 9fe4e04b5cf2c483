import type { Mask } from '@copal/shared/mask/mask-codec.ts'

/** Returns the share of weights that a mask prunes: of those that it masks, or of all linears whose shapes are given. */
export function maskSparsity(
  { linears }: Mask,
  shapes?: ReadonlyMap<string, readonly [rows: number, cols: number]>,
): number {
  let pruned = 0
  let all = 0
  for (const { rows, cols, bits } of linears.values()) {
    pruned += rows * cols - onesOf(bits)
    all += rows * cols
  }
  return pruned / (shapes ? [...shapes.values()].reduce((sum, [rows, cols]) => sum + rows * cols, 0) : all)
}

/** Returns the share of weights whose bit differs between two masks; a linear that one of them lacks is dense there. */
export function maskChurn(a: Mask, b: Mask): number {
  let differing = 0
  let all = 0
  for (const name of new Set([...a.linears.keys(), ...b.linears.keys()])) {
    const [one, other] = [a.linears.get(name), b.linears.get(name)]
    const { rows, cols, bits } = (one ?? other)!
    all += rows * cols
    differing +=
      one && other
        ? onesOf(one.bits.map((byte, index) => byte ^ other.bits[index]!))
        : rows * cols - onesOf(bits)
  }
  return differing / all
}

function onesOf(bits: Uint8Array): number {
  return bits.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)
}
