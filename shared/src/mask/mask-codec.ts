/**
 * The mask file: a safetensors container with one `U8` tensor `[rows, ceil(cols/8)]` for each pruned linear. A weights
 * file also has the surviving values: for each of those a `BF16` tensor `<weight name>.values` `[kept]`.
 *
 * `__metadata__` holds `format` (`copal-mask` or `copal-weights`), `format_version`, `base_sha256`, `method`, `pattern`,
 * `scope`, `domains` (JSON array), `created`, and where they apply:
 * - `parent`: the mask that this one succeeds;
 * - `patterns`: a JSON object of the linears whose pattern differs from `pattern`; those with `dense` have no tensor;
 * - `columns`: a JSON object of the true column counts that are not a multiple of eight.
 */
import { AppError } from '../errors.ts'
import { countBits, countDifferingBits } from './bit-rows.ts'
import { checkLinear, type MaskLinear } from './check-linear.ts'
import { layOutMask, readMaskHeader, type MaskEntry } from './mask-header.ts'
import { maskInvalid } from './mask-error.ts'
import { DENSE, linearPattern, type MaskMeta } from './mask-metadata.ts'

export type { MaskLinear } from './check-linear.ts'
export type { MaskKind, MaskMeta } from './mask-metadata.ts'

/** A mask in memory. `linears` is keyed by the name of the masked weight; either all of them have values or none. */
export interface Mask {
  meta: MaskMeta
  linears: ReadonlyMap<string, MaskLinear>
}

/** The model that a mask must fit: its base hash and the `[rows, cols]` of every linear. */
export interface MaskTarget {
  baseSha256: string
  shapes: ReadonlyMap<string, readonly [rows: number, cols: number]>
}

/**
 * Serialises a mask; equal masks give equal bytes.
 *
 * @throws AppError `mask_invalid` when only some linears have values
 */
export function encodeMask({ meta, linears }: Mask): Uint8Array<ArrayBuffer> {
  const shapes = new Map<string, { rows: number; cols: number; kept: number }>()
  const withValues: string[] = []
  for (const [name, { rows, cols, values }] of linears) {
    if (values) withValues.push(name)
    shapes.set(name, { rows, cols, kept: values?.length ?? 0 })
  }
  const kind = withValues.length > 0 ? 'weights' : 'mask'
  if (kind === 'weights' && withValues.length < linears.size) {
    const without = [...linears.keys()].find((name) => !withValues.includes(name))
    throw maskInvalid(`tensor '${without}' has no values, but other tensors have`)
  }
  const layout = layOutMask(kind, meta, shapes)
  const file = new Uint8Array(layout.fileBytes)
  file.set(layout.headerBytes)
  for (const [name, { bits, values }] of linears) {
    const entry = layout.linears.get(name) as MaskEntry
    if (bits.byteLength !== entry.bits.end - entry.bits.begin) {
      throw maskInvalid(
        `tensor '${name}' has ${bits.byteLength} bytes, but its shape takes ${entry.bits.end - entry.bits.begin}`,
      )
    }
    file.set(bits, entry.bits.begin)
    if (values && entry.values) file.set(bytesOf(values), entry.values.begin)
  }
  return file
}

/**
 * Parses a mask file. The bits, and the values where they are aligned, are views of `bytes`. {@link checkMask} checks
 * whether it fits a model.
 *
 * @throws AppError `mask_invalid`
 */
export function decodeMask(bytes: Uint8Array): Mask {
  const { meta, linears: entries, fileBytes } = readMaskHeader(bytes)
  if (fileBytes !== bytes.byteLength) {
    throw maskInvalid(`the header describes ${fileBytes} bytes, but the file has ${bytes.byteLength}`)
  }
  const linears = new Map<string, MaskLinear>()
  for (const [name, { rows, cols, bits, values }] of entries) {
    linears.set(name, {
      rows,
      cols,
      bits: bytes.subarray(bits.begin, bits.end),
      ...(values ? { values: asUint16(bytes.subarray(values.begin, values.end)) } : {}),
    })
  }
  return { meta, linears }
}

/**
 * Checks that a mask was made for this model and keeps exactly the counts of its patterns: base hash, names, shapes,
 * padding bits, the kept count of every row, matrix or group, and the count and finiteness of its values.
 *
 * @throws AppError `mask_base_mismatch`, or `mask_invalid` naming the tensor
 */
export function checkMask(mask: Mask, target: MaskTarget): void {
  checkMaskHeader(mask, target)
  const { meta, linears } = mask
  for (const [name, linear] of linears) checkLinear(name, linear, linearPattern(meta, name), meta.scope)
}

/**
 * Checks the part of {@link checkMask} that needs no bits: base hash, names, shapes, and that every linear that is not
 * dense has a tensor. `checkLinear` checks the rest, one linear at a time.
 *
 * @throws AppError `mask_base_mismatch`, or `mask_invalid` naming the tensor
 */
export function checkMaskHeader(
  { meta, linears }: { meta: MaskMeta; linears: ReadonlyMap<string, { rows: number; cols: number }> },
  target: MaskTarget,
): void {
  if (meta.baseSha256 !== target.baseSha256) {
    throw new AppError(
      'mask_base_mismatch',
      `The mask was made for other dense weights: its base hash is ${meta.baseSha256}, that of this model is ${target.baseSha256}.`,
    )
  }
  for (const name of Object.keys(meta.patterns)) {
    if (!target.shapes.has(name)) {
      throw maskInvalid(`metadata 'patterns' names '${name}', which is not a linear of this model`)
    }
  }
  for (const [name, shape] of target.shapes) {
    const linear = linears.get(name)
    const dense = linearPattern(meta, name) === DENSE
    if (!linear && !dense) throw maskInvalid(`tensor '${name}' is missing`)
    if (linear && dense) throw maskInvalid(`tensor '${name}' is present, but its pattern is dense`)
    if (linear && (shape[0] !== linear.rows || shape[1] !== linear.cols)) {
      throw maskInvalid(
        `tensor '${name}' masks [${linear.rows}, ${linear.cols}], but the weight of this model is [${shape.join(', ')}]`,
      )
    }
  }
  for (const name of linears.keys()) {
    if (!target.shapes.has(name)) throw maskInvalid(`tensor '${name}' is not a linear of this model`)
  }
  if (linears.size === 0) throw maskInvalid('it masks no linear')
}

/**
 * Counts the weights of one linear whose bit differs between two masks, and all its weights. Null stands for a linear
 * that is left dense.
 *
 * @throws AppError `mask_invalid` when their shapes differ
 */
export function linearChurn(
  name: string,
  a: MaskLinear | null,
  b: MaskLinear | null,
): { differing: number; all: number } {
  const present = a ?? b
  if (!present) return { differing: 0, all: 0 }
  const all = present.rows * present.cols
  if (!a || !b) return { differing: all - countBits(present.bits), all }
  if (a.rows !== b.rows || a.cols !== b.cols) {
    throw maskInvalid(`tensor '${name}' has no counterpart of the same shape in the other mask`)
  }
  return { differing: countDifferingBits(a.bits, b.bits), all }
}

/**
 * Checks that a linear that a mask lacks is declared dense.
 *
 * @throws AppError `mask_invalid` when it is not
 */
export function requireDense(meta: MaskMeta, name: string): void {
  if (linearPattern(meta, name) === DENSE) return
  throw maskInvalid(`the two masks cover different linears: one lacks '${name}'`)
}

function bytesOf(values: Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** Returns `bytes` as little-endian 16-bit words: a view where they are aligned, otherwise a copy. */
function asUint16(bytes: Uint8Array): Uint16Array {
  // `slice` would give a view where the bytes are a Buffer.
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : new Uint8Array(bytes)
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2)
}
