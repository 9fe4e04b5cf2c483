import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { linearChurn, requireDense, type MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import { readMaskHeader, type MaskHeader } from '@copal/shared/mask/mask-header.ts'
import { asMaskInvalid, maskInvalid } from '@copal/shared/mask/mask-error.ts'
import { safetensorsHeaderBytes } from '@copal/shared/mask/safetensors-container.ts'
import { readExactly } from '../../platform/positional-read.ts'

/** An open mask file with one linear in memory at a time. Reads block, so use it in a process of its own. */
export interface MaskFileReader {
  readonly header: MaskHeader
  /**
   * Reads one linear, with its values when the file has them; `undefined` when the file does not contain it.
   *
   * @throws AppError `mask_invalid` when the file ends inside of it
   */
  read(name: string): MaskLinear | undefined
  close(): void
}

/**
 * Opens a mask file and reads its header. The caller checks whether it fits a model.
 *
 * @throws AppError `mask_invalid` naming what is wrong; what the file system says when it cannot be opened
 */
export function openMaskFile(path: string): MaskFileReader {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const prefix = readRange(file, 0, prefixBytes(readRange(file, 0, Math.min(8, size)), size))
    const header = wholeHeader(prefix, size)
    return {
      header,
      read(name) {
        const entry = header.linears.get(name)
        if (!entry) return undefined
        const { rows, cols, bits, values } = entry
        return {
          rows,
          cols,
          bits: readRange(file, bits.begin, bits.end),
          ...(values ? { values: new Uint16Array(readRange(file, values.begin, values.end).buffer) } : {}),
        }
      },
      close: () => closeSync(file),
    }
  } catch (error) {
    closeSync(file)
    throw error
  }
}

/**
 * Reads the header of a mask file without blocking the event loop. The caller checks whether it fits a model.
 *
 * @throws as {@link openMaskFile}
 */
export async function readMaskFileHeader(path: string): Promise<MaskHeader> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const length = await readExactly(file, 0, Math.min(8, size), path)
    return wholeHeader(await readExactly(file, 0, prefixBytes(length, size), path), size)
  } finally {
    await file.close()
  }
}

/**
 * Returns the fraction of weights whose bit differs between two mask files of one model, over the linears that either file
 * masks. Values do not count.
 *
 * @throws AppError `mask_invalid` when a linear is missing in one of them that it does not call dense.
 */
export function maskFileChurn(path: string, otherPath: string): number {
  const a = openMaskFile(path)
  try {
    const b = openMaskFile(otherPath)
    try {
      let differing = 0
      let all = 0
      for (const name of new Set([...a.header.linears.keys(), ...b.header.linears.keys()])) {
        const change = linearChurn(name, bitsOrDense(a, name), bitsOrDense(b, name))
        differing += change.differing
        all += change.all
      }
      return all === 0 ? 0 : differing / all
    } finally {
      b.close()
    }
  } finally {
    a.close()
  }
}

function bitsOrDense(mask: MaskFileReader, name: string): MaskLinear | null {
  const linear = mask.read(name)
  if (!linear) requireDense(mask.header.meta, name)
  return linear ?? null
}

/** Returns the length up to the end of the header, from the first eight bytes of a file of `size`. */
function prefixBytes(lengthPrefix: Uint8Array, size: number): number {
  return Math.min(
    asMaskInvalid(() => safetensorsHeaderBytes(lengthPrefix)),
    size,
  )
}

/** Parses the header and checks that the file has the length that it describes. */
function wholeHeader(prefix: Uint8Array, size: number): MaskHeader {
  const header = readMaskHeader(prefix)
  if (header.fileBytes === size) return header
  throw maskInvalid(`the header describes ${header.fileBytes} bytes, but the file has ${size}`)
}

/** Copies bytes `begin` to `end` into new memory, so that words of any size are aligned. */
function readRange(file: number, begin: number, end: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(end - begin)
  for (let done = 0; done < bytes.length;) {
    const count = readSync(file, bytes, done, bytes.length - done, begin + done)
    if (count === 0) throw maskInvalid(`the file ends at byte ${begin + done}`)
    done += count
  }
  return bytes
}
