import { rowBytes } from './bit-rows.ts'
import { asMaskInvalid, maskInvalid } from './mask-error.ts'
import {
  DENSE,
  formatMetadata,
  linearPattern,
  parseMetadata,
  type MaskKind,
  type MaskMeta,
} from './mask-metadata.ts'
import { layOutSafetensors, readSafetensorsHeader, type SafetensorsEntry } from './safetensors-container.ts'

/** An upper bound of the header of any mask, which has about 300 bytes per linear. */
export const MAX_MASK_HEADER_BYTES = 4 * 1024 * 1024

/** Suffix of the tensor with the surviving values of a weight. */
const VALUES_SUFFIX = '.values'

/** The location of one linear `[rows, cols]`: byte offsets from the start of the file. */
export interface MaskEntry {
  rows: number
  cols: number
  /** `U8` `[rows, ceil(cols/8)]` */
  bits: { begin: number; end: number }
  /** `BF16` `[kept]`; null in a mask without values. */
  values: { begin: number; end: number } | null
}

/** The header of a mask file, and the location of its tensors. */
export interface MaskHeader {
  kind: MaskKind
  meta: MaskMeta
  linears: ReadonlyMap<string, MaskEntry>
  fileBytes: number
}

/** The layout of a mask file to write: its header, and the location of each tensor. */
export interface MaskLayout extends MaskHeader {
  headerBytes: Uint8Array<ArrayBuffer>
}

/**
 * Computes the layout of a mask file; equal content gives equal bytes.
 *
 * @param linears the linears that the mask holds: `kept` weights of `[rows, cols]` each
 */
export function layOutMask(
  kind: MaskKind,
  meta: MaskMeta,
  linears: ReadonlyMap<string, { rows: number; cols: number; kept: number }>,
): MaskLayout {
  const columns = new Map<string, number>()
  const tensors = new Map<string, { dtype: string; shape: number[] }>()
  for (const [name, { rows, cols, kept }] of linears) {
    if (cols % 8 !== 0) columns.set(name, cols)
    tensors.set(name, { dtype: 'U8', shape: [rows, rowBytes(cols)] })
    if (kind === 'weights') tensors.set(`${name}${VALUES_SUFFIX}`, { dtype: 'BF16', shape: [kept] })
  }
  const metadata = formatMetadata(kind, meta, columns)
  const { header, entries, fileBytes } = layOutSafetensors(metadata, tensors)
  const placed = new Map<string, MaskEntry>()
  for (const [name, { rows, cols }] of linears) {
    const values = kind === 'weights' ? (entries.get(`${name}${VALUES_SUFFIX}`) as SafetensorsEntry) : null
    placed.set(name, { rows, cols, bits: entries.get(name) as SafetensorsEntry, values })
  }
  return { kind, meta, linears: placed, fileBytes, headerBytes: header }
}

/**
 * Parses the header of a mask file from the first bytes of it, which must contain the whole header. Checks neither the
 * bits nor whether the mask fits a model.
 *
 * @throws AppError `mask_invalid` naming the tensor or the metadata
 */
export function readMaskHeader(prefix: Uint8Array): MaskHeader {
  const { metadata, tensors, fileBytes } = asMaskInvalid(() => readSafetensorsHeader(prefix))
  const { kind, meta, columns } = parseMetadata(metadata)
  const values = new Map<string, SafetensorsEntry>()
  const linears = new Map<string, MaskEntry>()
  for (const [name, tensor] of tensors) {
    if (kind === 'weights' && tensor.dtype === 'BF16') values.set(name, tensor)
    else linears.set(name, { ...parseBits(name, tensor, columns), values: null })
  }
  for (const name of columns.keys()) {
    if (!linears.has(name))
      throw maskInvalid(`metadata 'columns' names '${name}', but there is no tensor for it`)
  }
  for (const name of Object.keys(meta.patterns)) {
    const dense = linearPattern(meta, name) === DENSE
    if (dense === linears.has(name)) {
      throw maskInvalid(
        dense
          ? `metadata 'patterns' says that '${name}' stays dense, but there is a tensor for it`
          : `metadata 'patterns' has a pattern for '${name}', but there is no tensor for it`,
      )
    }
  }
  if (kind === 'weights') pairValues(linears, values)
  return { kind, meta, linears, fileBytes }
}

function parseBits(
  name: string,
  { dtype, shape, begin, end }: SafetensorsEntry,
  columns: ReadonlyMap<string, number>,
): Omit<MaskEntry, 'values'> {
  const [rows, width] = shape
  if (dtype !== 'U8' || shape.length !== 2 || rows === undefined || width === undefined) {
    throw maskInvalid(`tensor '${name}' is ${dtype} [${shape.join(', ')}], expected U8 [rows, ceil(cols/8)]`)
  }
  const cols = columns.get(name) ?? width * 8
  if (rowBytes(cols) !== width) {
    throw maskInvalid(
      `tensor '${name}' has rows of ${width} bytes, but ${cols} columns take ${rowBytes(cols)}`,
    )
  }
  return { rows, cols, bits: { begin, end } }
}

/** Assigns each values tensor to its linear, and checks that none is left over on either side. */
function pairValues(linears: Map<string, MaskEntry>, values: ReadonlyMap<string, SafetensorsEntry>): void {
  for (const [name, { shape, begin, end }] of values) {
    const linear = name.endsWith(VALUES_SUFFIX)
      ? linears.get(name.slice(0, -VALUES_SUFFIX.length))
      : undefined
    if (!linear) throw maskInvalid(`tensor '${name}' has values, but this file has no linear for them`)
    if (shape.length !== 1) {
      throw maskInvalid(`tensor '${name}' is BF16 [${shape.join(', ')}], expected BF16 [kept weights]`)
    }
    linear.values = { begin, end }
  }
  for (const [name, linear] of linears) {
    if (!linear.values) throw maskInvalid(`tensor '${name}${VALUES_SUFFIX}' is missing`)
  }
}
