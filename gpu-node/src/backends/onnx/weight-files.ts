import { closeSync, openSync, readSync, realpathSync, writeSync } from 'node:fs'
import { join, parse, relative, sep } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { checkLinear, type MaskLinear } from '@copal/shared/mask/check-linear.ts'
import { checkMaskHeader } from '@copal/shared/mask/codec.ts'
import { linearPattern } from '@copal/shared/mask/metadata.ts'
import { unpackValues } from '@copal/shared/mask/values.ts'
import type { WeightLocator } from '../../graph/graph-builder.ts'
import type { ExternalData } from '../../graph/onnx-writer.ts'
import { openMaskFile, type MaskFileReader } from '../../masks/mask-file-reader.ts'
import { linearShapes, type LlamaConfig } from '../../model/config.ts'
import type { DenseMaster, MasterTensor } from '../../model/dense-model.ts'

/** Where the weights of a set lie, and the directory their locations are relative to. */
export interface WeightFiles {
  /**
   * The root of the file system. ONNX Runtime refuses weights outside of the model's directory, also
   * behind symbolic links; for a model from memory that directory is a session option, and no copy of
   * or link to the master is needed.
   */
  baseDir: string
  locate: WeightLocator
}

/** Alignment of a tensor in a masked file; a cache line. */
const ALIGNMENT = 64

/**
 * The weights of a set: all in the master, or the masked linears in a new file in `workDir` and the
 * rest in the master. The kept weights are those of the master, or the values that the mask brings.
 * The file may be unlinked once a session has been made.
 *
 * Blocking: for a process of its own.
 *
 * @throws AppError `mask_invalid`, `mask_base_mismatch`
 */
export function prepareWeightFiles(
  config: LlamaConfig,
  master: DenseMaster,
  maskPath: string | null,
  workDir: string,
): WeightFiles {
  const masterPath = realpathSync(master.path)
  const baseDir = parse(masterPath).root
  const masked = maskPath === null ? undefined : maskLinears(config, master, maskPath, workDir)
  return {
    baseDir,
    locate(name) {
      const replaced = masked?.get(name)
      if (replaced) return { ...replaced, location: below(baseDir, replaced.location) }
      const { offset, bytes } = masterTensor(master, name)
      return { location: below(baseDir, masterPath), offset, length: bytes }
    },
  }
}

/** Writes the linears of a mask file that fits the model; what does not fit is refused, naming the tensor. */
function maskLinears(
  config: LlamaConfig,
  master: DenseMaster,
  path: string,
  workDir: string,
): Map<string, ExternalData> {
  const mask = openMaskFile(path)
  try {
    checkMaskHeader(mask.header, { baseSha256: master.baseSha256, shapes: linearShapes(config) })
    return writeMaskedLinears(master, mask, workDir)
  } finally {
    mask.close()
  }
}

/** Streams every masked linear into one file, tensor by tensor, so that one is in memory at a time. */
function writeMaskedLinears(
  master: DenseMaster,
  mask: MaskFileReader,
  workDir: string,
): Map<string, ExternalData> {
  const { meta, linears } = mask.header
  const location = join(realpathSync(workDir), 'masked.f32')
  const places = new Map<string, ExternalData>()
  const largest = Math.max(...[...linears.values()].map(({ rows, cols }) => rows * cols))
  const words = new Uint32Array(largest)
  const input = openSync(master.path, 'r')
  const output = openSync(location, 'wx')
  try {
    let offset = 0
    for (const name of linears.keys()) {
      const linear = mask.read(name) as MaskLinear
      checkLinear(name, linear, linearPattern(meta, name), meta.scope)
      const tensor = masterTensor(master, name)
      const bytes = new Uint8Array(words.buffer, 0, tensor.bytes)
      if (linear.values) {
        unpackValues(linear.bits, linear.values, linear.rows, linear.cols, words)
      } else {
        readFully(input, bytes, tensor.offset, name)
        zeroPruned(words, linear)
      }
      writeFully(output, bytes, offset)
      places.set(name, { location, offset, length: tensor.bytes })
      offset = Math.ceil((offset + tensor.bytes) / ALIGNMENT) * ALIGNMENT
    }
  } finally {
    closeSync(input)
    closeSync(output)
  }
  return places
}

/** For each byte of a mask the eight words that keep or clear eight weights. */
const KEEP = Uint32Array.from({ length: 256 * 8 }, (_, i) => (((i >> 3) >> (i & 7)) & 1 ? 0xffffffff : 0))

/** Clears the pruned weights of `words` `[rows, cols]`, the bits of f32 values. */
function zeroPruned(words: Uint32Array, { rows, cols, bits }: MaskLinear): void {
  const rowBytes = Math.ceil(cols / 8)
  for (let row = 0; row < rows; row++) {
    const first = row * cols
    for (let byte = 0; byte < rowBytes; byte++) {
      const keep = (bits[row * rowBytes + byte] as number) * 8
      const at = first + byte * 8
      const count = Math.min(8, cols - byte * 8)
      for (let i = 0; i < count; i++) words[at + i] = (words[at + i] as number) & (KEEP[keep + i] as number)
    }
  }
}

function masterTensor(master: DenseMaster, name: string): MasterTensor {
  const tensor = master.tensors.get(name)
  if (!tensor) throw new AppError('unsupported_model', `The model's weights lack the tensor '${name}'.`)
  return tensor
}

/** `path` relative to `baseDir`, with forward slashes as ONNX wants them. */
function below(baseDir: string, path: string): string {
  return relative(baseDir, path).split(sep).join('/')
}

function readFully(file: number, bytes: Uint8Array, position: number, name: string): void {
  for (let done = 0; done < bytes.length;) {
    const count = readSync(file, bytes, done, bytes.length - done, position + done)
    if (count === 0) throw new AppError('node_failed', `The dense weights end inside the tensor '${name}'.`)
    done += count
  }
}

function writeFully(file: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;) {
    done += writeSync(file, bytes, done, bytes.length - done, position + done)
  }
}
