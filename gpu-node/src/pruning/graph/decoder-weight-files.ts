import { closeSync, openSync, readSync, realpathSync, writeSync } from 'node:fs'
import { join, parse, relative, sep } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import type { WeightLocator } from './graph-builder.ts'
import type { ExternalData } from './onnx-writer.ts'
import { applyLinear } from '../../model/mask-file/apply-mask.ts'
import { openMaskFile } from '../../model/mask-file/mask-file-reader.ts'
import { maskTarget, verifyMaskFile } from '../../model/mask-file/verify-mask.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { DenseMaster, MasterTensor } from '../../model/master/dense-model.ts'

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
  const masked = maskPath === null ? undefined : writeMaskedLinears(config, master, maskPath, workDir)
  return {
    baseDir,
    locate(name) {
      const replaced = masked?.get(name)
      if (replaced) return { ...replaced, location: relativePath(baseDir, replaced.location) }
      const { offset, bytes } = masterTensor(master, name)
      return { location: relativePath(baseDir, masterPath), offset, length: bytes }
    },
  }
}

/**
 * Streams the linears of a mask file into one file, tensor by tensor, so that one is in memory at a time; what does
 * not fit the model is refused, naming the tensor.
 */
function writeMaskedLinears(
  config: LlamaConfig,
  master: DenseMaster,
  maskPath: string,
  workDir: string,
): Map<string, ExternalData> {
  const location = join(realpathSync(workDir), 'masked.f32')
  const places = new Map<string, ExternalData>()
  const target = maskTarget(config, master)
  const words = new Uint32Array(Math.max(...[...target.shapes.values()].map(([rows, cols]) => rows * cols)))
  const mask = openMaskFile(maskPath)
  try {
    const input = openSync(master.path, 'r')
    const output = openSync(location, 'wx')
    try {
      let offset = 0
      verifyMaskFile(mask, target, (name, linear) => {
        const tensor = masterTensor(master, name)
        const bytes = new Uint8Array(words.buffer, 0, tensor.bytes)
        if (!linear.values) readFully(input, bytes, tensor.offset, name)
        applyLinear(words, linear)
        writeFully(output, bytes, offset)
        places.set(name, { location, offset, length: tensor.bytes })
        offset = Math.ceil((offset + tensor.bytes) / ALIGNMENT) * ALIGNMENT
      })
    } finally {
      closeSync(input)
      closeSync(output)
    }
  } finally {
    mask.close()
  }
  return places
}

function masterTensor(master: DenseMaster, name: string): MasterTensor {
  const tensor = master.tensors.get(name)
  if (!tensor) throw new AppError('unsupported_model', `The model's weights lack the tensor '${name}'.`)
  return tensor
}

/** `path` relative to `baseDir`, with forward slashes as ONNX wants them. */
function relativePath(baseDir: string, path: string): string {
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
