/**
 * The safetensors container: `u64 header length · JSON header · tensor bytes`, all little-endian.
 * Format: https://github.com/huggingface/safetensors#format
 */

/** Bytes per element of the known dtypes. */
const DTYPE_BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
}

/** The reference implementation has the same limit. */
const MAX_HEADER_BYTES = 100_000_000

/** The location of a tensor: `begin` and `end` are byte offsets from the start of the file. */
export interface SafetensorsEntry {
  dtype: string
  shape: readonly number[]
  begin: number
  end: number
}

/** The header of a file. `tensors` is ordered by offset. */
export interface SafetensorsHeader {
  metadata: Readonly<Record<string, string>>
  tensors: ReadonlyMap<string, SafetensorsEntry>
  /** Bytes of the whole file. */
  fileBytes: number
}

/** The error for bytes that are not a safetensors file; the message says what was found instead. */
export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError'
}

/** The layout of a file to write: its header, the location of each tensor in file order, and the size of the file. */
export interface SafetensorsLayout {
  /** Length prefix, JSON and padding. */
  header: Uint8Array<ArrayBuffer>
  entries: ReadonlyMap<string, SafetensorsEntry>
  fileBytes: number
}

/**
 * Computes the layout of a file: tensors with the largest elements come first, then by name, so that equal content
 * gives equal bytes and every tensor is aligned to its element size.
 *
 * @throws SafetensorsError for an unknown dtype
 */
export function layOutSafetensors(
  metadata: Readonly<Record<string, string>>,
  tensors: ReadonlyMap<string, Pick<SafetensorsEntry, 'dtype' | 'shape'>>,
): SafetensorsLayout {
  const sorted = [...tensors].sort(
    ([nameA, a], [nameB, b]) =>
      elementBytes(nameB, b.dtype) - elementBytes(nameA, a.dtype) || compare(nameA, nameB),
  )
  const parts: string[] = []
  const pairs = Object.entries(metadata)
    .sort(([a], [b]) => compare(a, b))
    .map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
  if (pairs.length) parts.push(`"__metadata__":{${pairs.join(',')}}`)
  const ends: number[] = []
  let offset = 0
  for (const [name, { dtype, shape }] of sorted) {
    if (name === '__metadata__') throw new SafetensorsError("a tensor cannot be named '__metadata__'")
    const end = offset + tensorBytes(name, dtype, shape)
    parts.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, end] })}`)
    ends.push((offset = end))
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`)
  const headerBytes = 8 + Math.ceil(json.byteLength / 8) * 8
  const header = new Uint8Array(headerBytes).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(headerBytes - 8), true)
  header.set(json, 8)
  const entries = sorted.map(([name, { dtype, shape }], index): [string, SafetensorsEntry] => [
    name,
    { dtype, shape, begin: headerBytes + (ends[index - 1] ?? 0), end: headerBytes + (ends[index] as number) },
  ])
  return { header, entries: new Map(entries), fileBytes: headerBytes + offset }
}

/**
 * Returns how many bytes must be read to parse the header, from the first eight bytes of a file.
 *
 * @throws SafetensorsError
 */
export function safetensorsHeaderBytes(prefix: Uint8Array): number {
  if (prefix.byteLength < 8)
    throw new SafetensorsError(`${prefix.byteLength} bytes are too few for a safetensors file`)
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true)
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new SafetensorsError('its first eight bytes are not a header length')
  }
  return 8 + Number(length)
}

/**
 * Parses the header of a file from its first bytes, which must contain the whole header. Tensors must follow one another
 * without gap or overlap.
 *
 * @throws SafetensorsError
 */
export function readSafetensorsHeader(bytes: Uint8Array): SafetensorsHeader {
  const headerBytes = safetensorsHeaderBytes(bytes)
  if (bytes.byteLength < headerBytes) {
    throw new SafetensorsError(`the header takes ${headerBytes} bytes, but the file has ${bytes.byteLength}`)
  }
  const root = parseJsonObject(bytes.subarray(8, headerBytes))
  const metadata: Record<string, string> = {}
  const entries: [string, SafetensorsEntry][] = []
  for (const [name, value] of Object.entries(root)) {
    if (!isRecord(value)) throw new SafetensorsError(`header entry '${name}' is not an object`)
    if (name === '__metadata__') {
      for (const [key, text] of Object.entries(value)) {
        if (typeof text !== 'string') throw new SafetensorsError(`metadata '${key}' is not a string`)
        metadata[key] = text
      }
    } else {
      entries.push([name, parseEntry(name, value, headerBytes)])
    }
  }
  entries.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)
  let at = headerBytes
  for (const [name, entry] of entries) {
    if (entry.begin !== at) {
      throw new SafetensorsError(
        `tensor '${name}' begins at byte ${entry.begin}, but the tensor before it ends at ${at}`,
      )
    }
    at = entry.end
  }
  return { metadata, tensors: new Map(entries), fileBytes: at }
}

function parseEntry(name: string, value: Record<string, unknown>, headerBytes: number): SafetensorsEntry {
  const { dtype, shape, data_offsets: offsets } = value
  const broken = (what: string) => new SafetensorsError(`tensor '${name}' ${what}`)
  if (typeof dtype !== 'string') throw broken(`has dtype ${JSON.stringify(dtype)}`)
  if (!isCountArray(shape)) throw broken(`has shape ${JSON.stringify(shape)}`)
  if (!isCountArray(offsets) || offsets.length !== 2)
    throw broken(`has data_offsets ${JSON.stringify(offsets)}`)
  const [begin = 0, end = 0] = offsets
  const bytes = tensorBytes(name, dtype, shape)
  if (end - begin !== bytes) {
    throw broken(`has ${end - begin} bytes, but its shape takes ${bytes}`)
  }
  return { dtype, shape, begin: headerBytes + begin, end: headerBytes + end }
}

function parseJsonObject(bytes: Uint8Array): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
  } catch (cause) {
    throw new SafetensorsError('its header is not JSON', { cause })
  }
  if (!isRecord(value)) throw new SafetensorsError('its header is not an object')
  return value
}

function tensorBytes(name: string, dtype: string, shape: readonly number[]): number {
  let bytes = elementBytes(name, dtype)
  for (const size of shape) bytes *= size
  if (!Number.isSafeInteger(bytes)) throw new SafetensorsError(`tensor '${name}' is too large`)
  return bytes
}

function elementBytes(name: string, dtype: string): number {
  const bytes = Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype] : undefined
  if (bytes === undefined)
    throw new SafetensorsError(`tensor '${name}' has the unknown dtype ${JSON.stringify(dtype)}`)
  return bytes
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCountArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
