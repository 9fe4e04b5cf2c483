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

/** The locations of all weights, relative to `baseDir`. */
export interface WeightFiles {
  /**
   * The root of the file system. ONNX Runtime rejects weights outside the model's directory, even behind symbolic links.
   * For a model in memory that directory is a session option, so the master needs neither a copy nor a link.
   */
  baseDir: string
  locate: WeightLocator
}

/** Alignment of tensors in a masked file, bytes: a cache line. */
const ALIGNMENT = 64

/**
 * Prepares the files with the weights. Without a mask all weights are in the master. With one, the masked linears are
 * written to a new file in `workDir`: the kept weights have the values of the master, or those in the mask file. The new
 * file may be removed once a session is created.
 *
 * Blocks, so use it in a process of its own.
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
 * Writes the masked linears into one file, with one tensor in memory at a time.
 *
 * @throws AppError that names the tensor when the mask does not fit the model
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

/** Returns `path` relative to `baseDir`, with forward slashes as ONNX requires. */
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
