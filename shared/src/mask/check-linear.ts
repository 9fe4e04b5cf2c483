import { countBits, rowBytes, tailIsZero } from './bit-rows.ts'
import { asMaskInvalid, maskInvalid } from './mask-error.ts'
import {
  keptCounts,
  parsePattern,
  type KeptCounts,
  type MaskScope,
  type SparsityPattern,
} from './sparsity-pattern.ts'
import { findNotFinite } from './packed-values.ts'

/** The mask of one linear `[rows, cols]`; `bits` is `[rows, ceil(cols/8)]`, see `bit-rows.ts`. */
export interface MaskLinear {
  rows: number
  cols: number
  bits: Uint8Array
  /** The surviving values, bfloat16, packed as in `packed-values.ts`. Absent in a mask: the dense weights apply. */
  values?: Uint16Array
}

/**
 * Checks one linear of a mask: it keeps exactly the count of `pattern` in every row, matrix or group, its padding bits
 * are zero, and its values, if present, match the kept count and are finite.
 *
 * @throws AppError `mask_invalid` naming the tensor
 */
export function checkLinear(name: string, linear: MaskLinear, pattern: string, scope: MaskScope): void {
  const { rows, cols, bits } = linear
  const width = rowBytes(cols)
  if (bits.length !== rows * width) {
    throw maskInvalid(
      `tensor '${name}' has ${bits.length} bytes, but [${rows}, ${cols}] takes ${rows * width}`,
    )
  }
  for (let row = 0; row < rows && cols % 8 !== 0; row++) {
    if (!tailIsZero(bits.subarray(row * width, (row + 1) * width), cols)) {
      throw maskInvalid(`tensor '${name}' row ${row} has bits set after its last column`)
    }
  }
  const counts = expectedKeptCounts(name, pattern, scope, rows, cols)
  if (counts.pattern.kind === 'n:m') checkColumnGroups(name, linear, counts.kept, counts.size)
  else checkKeptCounts(name, bits, counts, scope)
  if (linear.values) checkValues(name, linear.values, counts.groups * counts.kept)
}

/**
 * Returns how many weights a linear's mask must keep, and where.
 *
 * @throws AppError `mask_invalid` naming the tensor, when the pattern does not fit its columns
 */
export function expectedKeptCounts(
  name: string,
  pattern: string,
  scope: MaskScope,
  rows: number,
  cols: number,
): KeptCounts & { pattern: SparsityPattern } {
  return asMaskInvalid(() => {
    const parsed = parsePattern(pattern)
    return { ...keptCounts(parsed, scope, rows, cols), pattern: parsed }
  }, name)
}

function checkKeptCounts(
  name: string,
  bits: Uint8Array,
  { groups, size, kept: expected }: KeptCounts,
  scope: MaskScope,
): void {
  const perGroup = bits.length / groups
  for (let group = 0; group < groups; group++) {
    const kept = countBits(bits, group * perGroup, (group + 1) * perGroup)
    if (kept === expected) continue
    const where = scope === 'row' ? ` row ${group}` : ''
    throw maskInvalid(`tensor '${name}'${where} keeps ${kept} of ${size} weights, expected ${expected}`)
  }
}

function checkColumnGroups(
  name: string,
  { rows, cols, bits }: MaskLinear,
  keep: number,
  group: number,
): void {
  const width = rowBytes(cols)
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < cols; first += group) {
      let kept = 0
      for (let j = first; j < first + group; j++)
        kept += ((bits[row * width + (j >> 3)] as number) >> (j & 7)) & 1
      if (kept !== keep) {
        throw maskInvalid(
          `tensor '${name}' row ${row} keeps ${kept} of the ${group} weights from column ${first}, expected ${keep}`,
        )
      }
    }
  }
}

function checkValues(name: string, values: Uint16Array, expected: number): void {
  if (values.length !== expected) {
    throw maskInvalid(`tensor '${name}' keeps ${expected} weights, but has ${values.length} values`)
  }
  const index = findNotFinite(values)
  if (index >= 0) throw maskInvalid(`value ${index} of tensor '${name}' is not finite`)
}
