import { open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import type { MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import { layOutSafetensors } from '@copal/shared/mask/safetensors-container.ts'
import { roundToBfloat16 } from '@copal/shared/mask/packed-values.ts'
import { explainFullDisk } from '../../platform/full-disk.ts'
import { modelTensors } from '../formats/checkpoint.ts'
import type { LlamaConfig } from '../config/llama-config.ts'
import type { DenseMaster } from '../master/dense-model.ts'
import { loadTensor } from '../master/read-master.ts'
import type { ModelFiles } from '../source/local-source.ts'
import { applyLinear } from './apply-mask.ts'
import { writeCheckpointFiles, type CheckpointDtype } from './checkpoint-files.ts'
import { openMaskFile } from './mask-file-reader.ts'
import { maskTarget, verifyMaskFile } from './verify-mask.ts'
import { makeFolder } from '../../platform/make-folder.ts'
import { writeFully } from '../../platform/positional-write.ts'

/** Name of the weights file of a checkpoint. */
const WEIGHTS = 'model.safetensors'

/**
 * Writes a model under a mask as a Hugging Face checkpoint: every tensor dense, pruned weights 0, one tensor in memory at a
 * time. The weights file gets its name last, so that an interrupted export is not a checkpoint.
 *
 * @param dir made when it is not there; must be empty
 * @param files what the model was opened from
 * @param onTensor called with the number of tensors written and of all
 * @returns size of the weights
 * @throws AppError `invalid_request` for a folder that is not empty, `mask_invalid`, `mask_base_mismatch`,
 * `unsupported_model` for a weight that no bfloat16 holds, `internal_error` when the disk is full
 */
export async function exportCheckpoint(
  model: { config: LlamaConfig; master: DenseMaster; files: ModelFiles },
  maskPath: string,
  dir: string,
  dtype: CheckpointDtype,
  onTensor: (done: number, all: number) => void = () => {},
): Promise<number> {
  const { config, master } = model
  makeFolder(dir)
  if ((await readdir(dir)).length > 0) {
    throw new AppError('invalid_request', `${dir} is not empty. Name a folder that is, or a new one.`)
  }
  const mask = openMaskFile(maskPath)
  const unfinished = join(dir, `${WEIGHTS}.partial`)
  try {
    verifyMaskFile(mask, maskTarget(config, master))
    const tensors = modelTensors(config)
    const { header, entries, fileBytes } = layOutSafetensors(
      // transformers requires this entry.
      { format: 'pt' },
      new Map(tensors.map(({ name, shape }) => [name, { dtype, shape }])),
    )
    const file = await open(unfinished, 'wx')
    try {
      await writeFully(file, header, 0)
      for (const [index, { name }] of tensors.entries()) {
        const weights = await maskedTensor(master, name, mask.read(name))
        const stored = dtype === 'F32' ? weights : roundToBfloat16(name, weights)
        await writeFully(file, new Uint8Array(stored.buffer), entries.get(name)?.begin ?? 0)
        onTensor(index + 1, tensors.length)
      }
      await file.sync()
    } finally {
      await file.close()
    }
    await writeCheckpointFiles(dir, config, model.files, dtype)
    await rename(unfinished, join(dir, WEIGHTS))
    return fileBytes
  } catch (error) {
    await rm(unfinished, { force: true })
    throw explainFullDisk(error, dir, `for a ${dtype} checkpoint`, 'name a folder on a larger disk')
  } finally {
    mask.close()
  }
}

async function maskedTensor(
  master: DenseMaster,
  name: string,
  linear: MaskLinear | undefined,
): Promise<Float32Array<ArrayBuffer>> {
  const weights = await loadTensor(master, name)
  if (linear) applyLinear(new Uint32Array(weights.buffer), linear)
  return weights
}
