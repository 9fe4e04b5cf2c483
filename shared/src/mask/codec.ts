/**
 * The mask file: a safetensors container with one `U8` tensor `[rows, ceil(cols/8)]` a pruned linear.
 *
 * `__metadata__` holds `format`, `format_version`, `base_sha256`, `method`, `pattern`, `scope`, `domains` (JSON
 * array), `parent` (absent for the first mask), `created`, and `columns`: a JSON object that gives the true
 * columns of those linears whose columns are not a multiple of eight (absent when there are none).
 */
import { AppError } from '../errors.ts'
import { countBits, countDifferingBits, rowBytes, tailIsZero } from './bits.ts'
import { keptCounts, parsePattern, type MaskScope, type SparsityPattern } from './pattern.ts'
import {
  decodeSafetensors,
  encodeSafetensors,
  readSafetensorsHeader,
  SafetensorsError,
  type SafetensorsTensor,
} from './safetensors.ts'

const FORMAT = 'copal-mask'
const FORMAT_VERSION = '1'

/** What a mask file says about itself. */
export interface MaskMeta {
  method: string
  /** `0.5`, `2:4`. */
  pattern: string
  /** Whether rows or whole matrices keep exact counts; without meaning for n:m. */
  scope: MaskScope
  /** Domains whose statistics chose it. */
  domains: readonly string[]
  /** SHA-256 of the mask file it succeeds. */
  parent: string | null
  /** ISO 8601. */
  created: string
  /** SHA-256 over the dense linear weights it was chosen from. */
  baseSha256: string
}

/** The kept weights of one linear `[rows, cols]`; `bits` is `[rows, ceil(cols/8)]`, see `bits.ts`. */
export interface MaskLinear {
  rows: number
  cols: number
  bits: Uint8Array
}

/** A mask in memory; `linears` by the name of the weight they mask. */
export interface Mask {
  meta: MaskMeta
  linears: ReadonlyMap<string, MaskLinear>
}

/** What a mask must fit: the base hash and the `[rows, cols]` of every linear of a model. */
export interface MaskTarget {
  baseSha256: string
  shapes: ReadonlyMap<string, readonly [rows: number, cols: number]>
}

/** Serialises a mask; equal masks give equal bytes. */
export function encodeMask(mask: Mask): Uint8Array<ArrayBuffer> {
  const { meta, linears } = mask
  const tensors = new Map<string, SafetensorsTensor>()
  const columns: [string, number][] = []
  for (const [name, { rows, cols, bits }] of linears) {
    tensors.set(name, { dtype: 'U8', shape: [rows, rowBytes(cols)], data: bits })
    if (cols % 8 !== 0) columns.push([name, cols])
  }
  columns.sort(([a], [b]) => (a < b ? -1 : 1))
  const metadata: Record<string, string> = {
    format: FORMAT,
    format_version: FORMAT_VERSION,
    base_sha256: meta.baseSha256,
    method: meta.method,
    pattern: meta.pattern,
    scope: meta.scope,
    domains: JSON.stringify(meta.domains),
    created: meta.created,
  }
  if (meta.parent !== null) metadata['parent'] = meta.parent
  if (columns.length) metadata['columns'] = JSON.stringify(Object.fromEntries(columns))
  return encodeSafetensors({ metadata, tensors })
}

/**
 * Parses a mask file; the bits are views of `bytes`. Whether it fits a model is {@link checkMask}'s to say.
 *
 * @throws AppError `mask_invalid`
 */
export function decodeMask(bytes: Uint8Array): Mask {
  const { metadata, tensors } = asMaskInvalid(() => decodeSafetensors(bytes))
  const meta = parseMeta(metadata)
  const columns = parseColumns(metadata['columns'])
  const linears = new Map<string, MaskLinear>()
  for (const [name, { dtype, shape, data }] of tensors) {
    const [rows, width] = shape
    if (dtype !== 'U8' || shape.length !== 2 || rows === undefined || width === undefined) {
      throw invalid(`tensor '${name}' is ${dtype} [${shape.join(', ')}], expected U8 [rows, ceil(cols/8)]`)
    }
    const cols = columns.get(name) ?? width * 8
    if (rowBytes(cols) !== width) {
      throw invalid(`tensor '${name}' has rows of ${width} bytes, ${cols} columns take ${rowBytes(cols)}`)
    }
    linears.set(name, { rows, cols, bits: data })
  }
  for (const name of columns.keys()) {
    if (!linears.has(name)) throw invalid(`metadata gives columns for '${name}', which it does not hold`)
  }
  return { meta, linears }
}

/**
 * What a mask file says about itself, from a prefix that holds at least its header.
 *
 * @throws AppError `mask_invalid`
 */
export function readMaskMeta(bytes: Uint8Array): MaskMeta {
  return parseMeta(asMaskInvalid(() => readSafetensorsHeader(bytes)).metadata)
}

/**
 * Checks that a mask was made for this model and keeps exactly what its pattern says: base hash, names,
 * shapes, zero tail bits, and the kept count of every row, matrix or group.
 *
 * @throws AppError `mask_base_mismatch`, or `mask_invalid` naming the tensor
 */
export function checkMask(mask: Mask, target: MaskTarget): void {
  const { meta, linears } = mask
  if (meta.baseSha256 !== target.baseSha256) {
    throw new AppError(
      'mask_base_mismatch',
      `The mask was made for other weights: its base is ${meta.baseSha256}, this model's is ${target.baseSha256}.`,
    )
  }
  for (const name of target.shapes.keys()) {
    if (!linears.has(name)) throw invalid(`tensor '${name}' is missing`)
  }
  const pattern = asMaskInvalid(() => parsePattern(meta.pattern))
  for (const [name, linear] of linears) {
    const shape = target.shapes.get(name)
    if (!shape) throw invalid(`tensor '${name}' is not a linear of this model`)
    if (shape[0] !== linear.rows || shape[1] !== linear.cols) {
      throw invalid(
        `tensor '${name}' masks [${linear.rows}, ${linear.cols}], this model's weight is [${shape.join(', ')}]`,
      )
    }
    checkCounts(name, linear, pattern, meta.scope)
  }
}

/** Pruned weights over all weights, over all linears. */
export function maskSparsity(mask: Mask): number {
  let kept = 0
  let all = 0
  for (const { rows, cols, bits } of mask.linears.values()) {
    kept += countBits(bits)
    all += rows * cols
  }
  return all === 0 ? 0 : 1 - kept / all
}

/**
 * Fraction of the weights whose bit differs between two masks of one model.
 *
 * @throws AppError `mask_invalid` when they do not hold the same linears.
 */
export function maskChurn(a: Mask, b: Mask): number {
  let differing = 0
  let all = 0
  if (a.linears.size !== b.linears.size) throw invalid('the two masks do not hold the same linears')
  for (const [name, linear] of a.linears) {
    const other = b.linears.get(name)
    if (!other || other.rows !== linear.rows || other.cols !== linear.cols) {
      throw invalid(`tensor '${name}' has no counterpart of the same shape in the other mask`)
    }
    differing += countDifferingBits(linear.bits, other.bits)
    all += linear.rows * linear.cols
  }
  return all === 0 ? 0 : differing / all
}

function checkCounts(name: string, linear: MaskLinear, pattern: SparsityPattern, scope: MaskScope): void {
  const { rows, cols, bits } = linear
  const width = rowBytes(cols)
  if (bits.length !== rows * width) {
    throw invalid(`tensor '${name}' has ${bits.length} bytes, [${rows}, ${cols}] takes ${rows * width}`)
  }
  for (let row = 0; row < rows && cols % 8 !== 0; row++) {
    if (!tailIsZero(bits.subarray(row * width, (row + 1) * width), cols)) {
      throw invalid(`tensor '${name}' row ${row} has bits set after its last column`)
    }
  }
  const counts = asMaskInvalid(() => keptCounts(pattern, scope, rows, cols), name)
  if (pattern.kind === 'n:m') return checkGroups(name, linear, pattern.keep, pattern.group)
  const perGroup = counts.groups === 1 ? bits.length : width
  for (let group = 0; group < counts.groups; group++) {
    const kept = countBits(bits, group * perGroup, (group + 1) * perGroup)
    if (kept !== counts.kept) {
      const where = scope === 'row' ? ` row ${group}` : ''
      throw invalid(
        `tensor '${name}'${where} keeps ${kept} of ${counts.size} weights, expected ${counts.kept}`,
      )
    }
  }
}

function checkGroups(name: string, { rows, cols, bits }: MaskLinear, keep: number, group: number): void {
  const width = rowBytes(cols)
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < cols; first += group) {
      let kept = 0
      for (let j = first; j < first + group; j++)
        kept += ((bits[row * width + (j >> 3)] as number) >> (j & 7)) & 1
      if (kept !== keep) {
        throw invalid(
          `tensor '${name}' row ${row} keeps ${kept} of the ${group} weights from column ${first}, expected ${keep}`,
        )
      }
    }
  }
}

function parseMeta(metadata: Readonly<Record<string, string>>): MaskMeta {
  const field = (key: string): string => {
    const value = metadata[key]
    if (value === undefined) throw invalid(`metadata '${key}' is missing`)
    return value
  }
  const format = field('format')
  if (format !== FORMAT) throw invalid(`metadata 'format' is '${format}', expected '${FORMAT}'`)
  const version = field('format_version')
  if (version !== FORMAT_VERSION) {
    throw invalid(`metadata 'format_version' is '${version}', this copal reads '${FORMAT_VERSION}'`)
  }
  const scope = field('scope')
  if (scope !== 'row' && scope !== 'matrix')
    throw invalid(`metadata 'scope' is '${scope}', expected 'row' or 'matrix'`)
  const pattern = field('pattern')
  asMaskInvalid(() => parsePattern(pattern))
  const hash = (key: string, value: string): string => {
    if (!/^[0-9a-f]{64}$/.test(value)) throw invalid(`metadata '${key}' is not a SHA-256 in lower-case hex`)
    return value
  }
  const parent = metadata['parent']
  return {
    method: field('method'),
    pattern,
    scope,
    domains: parseDomains(field('domains')),
    parent: parent === undefined ? null : hash('parent', parent),
    created: field('created'),
    baseSha256: hash('base_sha256', field('base_sha256')),
  }
}

function parseDomains(text: string): string[] {
  const value = parseJson('domains', text)
  if (!Array.isArray(value) || !value.every((domain) => typeof domain === 'string')) {
    throw invalid("metadata 'domains' is not a JSON array of names")
  }
  return value
}

function parseColumns(text: string | undefined): ReadonlyMap<string, number> {
  if (text === undefined) return new Map()
  const value = parseJson('columns', text)
  const columns = new Map<string, number>()
  for (const [name, cols] of Object.entries(typeof value === 'object' && value !== null ? value : {})) {
    if (!Number.isSafeInteger(cols) || cols < 1)
      throw invalid(`metadata 'columns' of '${name}' is not a count`)
    columns.set(name, cols)
  }
  return columns
}

function parseJson(key: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw invalid(`metadata '${key}' is not JSON`, cause)
  }
}

/** Runs a step of reading; what it refuses, the mask file is refused for. */
function asMaskInvalid<T>(read: () => T, tensor?: string): T {
  try {
    return read()
  } catch (cause) {
    if (cause instanceof SafetensorsError || cause instanceof AppError) {
      throw invalid(tensor === undefined ? cause.message : `tensor '${tensor}': ${cause.message}`, cause)
    }
    throw cause
  }
}

function invalid(reason: string, cause?: unknown): AppError {
  return new AppError(
    'mask_invalid',
    `Not a usable mask: ${reason.replace(/\.$/, '')}. Fetch or make the mask again.`,
    cause === undefined ? {} : { cause },
  )
}
