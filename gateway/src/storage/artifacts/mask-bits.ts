import { maskInvalid } from '@copal/shared/mask/mask-error.ts'
import type { MaskHeader } from '@copal/shared/mask/mask-header.ts'
import { maskKey } from './artifact-keys.ts'

/** Bytes that are read at once at most, unless a single linear has more. */
const MAX_READ_BYTES = 8 * 1024 * 1024
/** A gap between the bits of two linears that is read and skipped rather than read around, bytes. */
const MAX_GAP_BYTES = 64 * 1024

/** A part of a mask file that is read at once: whole tensors of bits. Offsets are bytes of the file. */
interface Read {
  begin: number
  end: number
  linears: string[]
}

/** Reads the bits of a mask file in R2, linear by linear, in the order of the file. */
export interface MaskBits {
  /** Reads of R2 that the whole file takes. */
  readonly reads: number
  /**
   * Returns the bits of a linear, `[rows, ceil(cols/8)]`; a view that later calls leave alone.
   *
   * @throws AppError `mask_invalid` if the file is gone or shorter than its header says
   */
  bitsOf(name: string): Promise<Uint8Array>
}

/** Opens the bits of a mask file, of which at most two reads are in memory at a time. */
export function openMaskBits(artifacts: R2Bucket, sha256: string, header: MaskHeader): MaskBits {
  const reads = planReads(header)
  const readOf = new Map(reads.flatMap((read) => read.linears.map((name) => [name, read] as const)))
  let current: { read: Read; bytes: Uint8Array } | undefined
  return {
    reads: reads.length,
    async bitsOf(name) {
      const read = readOf.get(name)
      const linear = header.linears.get(name)
      if (!read || !linear) throw maskInvalid(`it has no linear '${name}'`)
      if (current?.read !== read) {
        const length = read.end - read.begin
        const object = await artifacts.get(maskKey(sha256), { range: { offset: read.begin, length } })
        const bytes = object && new Uint8Array(await object.arrayBuffer())
        if (bytes?.byteLength !== length)
          throw maskInvalid('its file is gone, or shorter than its header says')
        current = { read, bytes }
      }
      return current.bytes.subarray(linear.bits.begin - read.begin, linear.bits.end - read.begin)
    },
  }
}

function planReads({ linears }: MaskHeader): Read[] {
  const reads: Read[] = []
  const inOrder = [...linears].toSorted(([, a], [, b]) => a.bits.begin - b.bits.begin)
  for (const [name, { bits }] of inOrder) {
    const last = reads.at(-1)
    if (last && bits.begin - last.end <= MAX_GAP_BYTES && bits.end - last.begin <= MAX_READ_BYTES) {
      last.end = bits.end
      last.linears.push(name)
    } else {
      reads.push({ begin: bits.begin, end: bits.end, linears: [name] })
    }
  }
  return reads
}
