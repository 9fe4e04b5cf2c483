/**
 * The safetensors container: `u64 header length · JSON header · tensor bytes`, all little-endian.
 * Format: https://github.com/huggingface/safetensors#format
 */

/** Bytes an element takes, for the dtypes whose files we can find our way in. */
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

/** The reference implementation refuses longer headers too. */
const MAX_HEADER_BYTES = 100_000_000

/** One tensor in memory: `data` is row-major, `shape` product × dtype size bytes. */
export interface SafetensorsTensor {
  dtype: string
  shape: readonly number[]
  data: Uint8Array
}

/** A whole file in memory. */
export interface SafetensorsContent {
  metadata: Readonly<Record<string, string>>
  tensors: ReadonlyMap<string, SafetensorsTensor>
}

/** Where a tensor lies: `begin` and `end` are byte offsets from the start of the file. */
export interface SafetensorsEntry {
  dtype: string
  shape: readonly number[]
  begin: number
  end: number
}

/** What stands before the tensor bytes. `tensors` is ordered by offset. */
export interface SafetensorsHeader {
  metadata: Readonly<Record<string, string>>
  tensors: ReadonlyMap<string, SafetensorsEntry>
  /** Bytes of length prefix and header: where the first tensor begins. */
  headerBytes: number
  /** Bytes of the whole file. */
  fileBytes: number
}

/** The bytes are not a safetensors file; the message says what was found instead. */
export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError'
}

/**
 * Serialises tensors, largest elements first and then by name, so that equal content gives equal bytes
 * and every tensor is aligned to its element size.
 *
 * @throws SafetensorsError when a tensor's bytes do not fit its dtype and shape.
 */
export function encodeSafetensors(content: SafetensorsContent): Uint8Array<ArrayBuffer> {
  const entries = [...content.tensors].sort(
    ([nameA, a], [nameB, b]) =>
      elementBytes(nameB, b.dtype) - elementBytes(nameA, a.dtype) || compare(nameA, nameB),
  )
  const parts: string[] = []
  const metadata = Object.entries(content.metadata).sort(([a], [b]) => compare(a, b))
  if (metadata.length) {
    const pairs = metadata.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
    parts.push(`"__metadata__":{${pairs.join(',')}}`)
  }
  let offset = 0
  for (const [name, tensor] of entries) {
    const bytes = tensorBytes(name, tensor.dtype, tensor.shape)
    if (name === '__metadata__') throw new SafetensorsError("a tensor cannot be named '__metadata__'")
    if (tensor.data.byteLength !== bytes) {
      throw new SafetensorsError(
        `tensor '${name}': ${tensor.data.byteLength} bytes, but ${tensor.dtype} [${tensor.shape.join(', ')}] takes ${bytes}`,
      )
    }
    const value = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, offset + bytes] }
    parts.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`)
    offset += bytes
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`)
  const headerBytes = 8 + Math.ceil(json.byteLength / 8) * 8
  const file = new Uint8Array(headerBytes + offset)
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes - 8), true)
  file.set(json, 8)
  file.fill(0x20, 8 + json.byteLength, headerBytes)
  let at = headerBytes
  for (const [, tensor] of entries) {
    file.set(tensor.data, at)
    at += tensor.data.byteLength
  }
  return file
}

/**
 * Bytes that must be read to parse the header, from the first eight bytes of a file.
 *
 * @throws SafetensorsError
 */
export function safetensorsHeaderBytes(prefix: Uint8Array): number {
  if (prefix.byteLength < 8)
    throw new SafetensorsError(`${prefix.byteLength} bytes are too few for a safetensors file`)
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true)
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new SafetensorsError(`its header claims ${length} bytes, at most ${MAX_HEADER_BYTES} are possible`)
  }
  return 8 + Number(length)
}

/**
 * Parses the header of a file of which `bytes` is a prefix that holds at least the header.
 * Tensors must follow one another without gap or overlap.
 *
 * @throws SafetensorsError
 */
export function readSafetensorsHeader(bytes: Uint8Array): SafetensorsHeader {
  const headerBytes = safetensorsHeaderBytes(bytes)
  if (bytes.byteLength < headerBytes) {
    throw new SafetensorsError(`the header takes ${headerBytes} bytes, only ${bytes.byteLength} are there`)
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
        `tensor '${name}' begins at byte ${entry.begin}, the one before it ends at ${at}`,
      )
    }
    at = entry.end
  }
  return { metadata, tensors: new Map(entries), headerBytes, fileBytes: at }
}

/**
 * Parses a whole file; tensor data are views of `bytes`.
 *
 * @throws SafetensorsError also when bytes are missing or left over.
 */
export function decodeSafetensors(bytes: Uint8Array): SafetensorsContent {
  const header = readSafetensorsHeader(bytes)
  if (header.fileBytes !== bytes.byteLength) {
    throw new SafetensorsError(
      `the header describes ${header.fileBytes} bytes, ${bytes.byteLength} are there`,
    )
  }
  const tensors = new Map<string, SafetensorsTensor>()
  for (const [name, { dtype, shape, begin, end }] of header.tensors) {
    tensors.set(name, { dtype, shape, data: bytes.subarray(begin, end) })
  }
  return { metadata: header.metadata, tensors }
}

function parseEntry(name: string, value: Record<string, unknown>, headerBytes: number): SafetensorsEntry {
  const { dtype, shape, data_offsets: offsets } = value
  const broken = (what: string) => new SafetensorsError(`tensor '${name}' ${what}`)
  if (typeof dtype !== 'string') throw broken(`has dtype ${JSON.stringify(dtype)}`)
  if (!isCounts(shape)) throw broken(`has shape ${JSON.stringify(shape)}`)
  if (!isCounts(offsets) || offsets.length !== 2) throw broken(`has data_offsets ${JSON.stringify(offsets)}`)
  const [begin = 0, end = 0] = offsets
  const bytes = tensorBytes(name, dtype, shape)
  if (end - begin !== bytes) {
    throw broken(`holds ${end - begin} bytes where its shape needs ${bytes}`)
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

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
