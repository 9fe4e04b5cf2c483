import { closeSync, openSync, readFileSync, readSync, realpathSync, writeSync } from 'node:fs'
import { join, parse, relative, sep } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { checkMask, decodeMask, type Mask, type MaskLinear } from '@copal/shared/mask/codec.ts'
import type { WeightLocator } from '../../graph/graph-builder.ts'
import type { ExternalData } from '../../graph/onnx-writer.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../../model/config.ts'
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
 * rest in the master. The file may be unlinked once a session has been made.
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
  const masked =
    maskPath === null
      ? undefined
      : writeMaskedLinears(config, master, readMask(config, master, maskPath), workDir)
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

/** Reads a mask file and checks that it fits the model. */
function readMask(config: LlamaConfig, master: DenseMaster, path: string): Mask {
  const mask = decodeMask(readFileSync(path))
  const shapes = new Map<string, readonly [number, number]>()
  for (let layer = 0; layer < config.layers; layer++) {
    for (const linear of BLOCK_LINEARS) shapes.set(linearName(layer, linear), linearShape(config, linear))
  }
  checkMask(mask, { baseSha256: master.baseSha256, shapes })
  return mask
}

/** Streams every masked linear from the master through the mask into one file, tensor by tensor. */
function writeMaskedLinears(
  config: LlamaConfig,
  master: DenseMaster,
  mask: Mask,
  workDir: string,
): Map<string, ExternalData> {
  const location = join(realpathSync(workDir), 'masked.f32')
  const places = new Map<string, ExternalData>()
  const largest = Math.max(
    ...BLOCK_LINEARS.map((linear) => linearShape(config, linear).reduce((a, b) => a * b)),
  )
  const values = new Uint32Array(largest)
  const input = openSync(master.path, 'r')
  const output = openSync(location, 'wx')
  try {
    let offset = 0
    for (const [name, linear] of mask.linears) {
      const tensor = masterTensor(master, name)
      const bytes = new Uint8Array(values.buffer, 0, tensor.bytes)
      readFully(input, bytes, tensor.offset, name)
      zeroPruned(values.subarray(0, tensor.bytes / 4), linear)
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

/** Clears the pruned weights of `values` `[rows, cols]`, the words of f32 values. */
function zeroPruned(values: Uint32Array, { rows, cols, bits }: MaskLinear): void {
  const rowBytes = Math.ceil(cols / 8)
  for (let row = 0; row < rows; row++) {
    const first = row * cols
    for (let byte = 0; byte < rowBytes; byte++) {
      const keep = (bits[row * rowBytes + byte] as number) * 8
      const at = first + byte * 8
      const count = Math.min(8, cols - byte * 8)
      for (let i = 0; i < count; i++) values[at + i] = (values[at + i] as number) & (KEEP[keep + i] as number)
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
