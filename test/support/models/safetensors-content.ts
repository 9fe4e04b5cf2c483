import { layOutSafetensors, readSafetensorsHeader } from '@copal/shared/mask/safetensors-container.ts'

/** One tensor in memory, row-major. */
export interface SafetensorsTensor {
  dtype: string
  shape: readonly number[]
  data: Uint8Array
}

/** A whole file in memory. */
interface SafetensorsContent {
  metadata: Readonly<Record<string, string>>
  tensors: ReadonlyMap<string, SafetensorsTensor>
}

/** Writes a file of metadata and tensors. */
export function encodeSafetensors({ metadata, tensors }: SafetensorsContent): Uint8Array<ArrayBuffer> {
  const { header, entries, fileBytes } = layOutSafetensors(metadata, tensors)
  const file = new Uint8Array(fileBytes)
  file.set(header)
  for (const [name, { data }] of tensors) file.set(data, entries.get(name)!.begin)
  return file
}

/** Reads a whole file; the data of tensors are views of `bytes`. */
export function decodeSafetensors(bytes: Uint8Array): SafetensorsContent {
  const { metadata, tensors } = readSafetensorsHeader(bytes)
  const read = Array.from(tensors, ([name, { dtype, shape, begin, end }]): [string, SafetensorsTensor] => [
    name,
    { dtype, shape, data: bytes.subarray(begin, end) },
  ])
  return { metadata, tensors: new Map(read) }
}
