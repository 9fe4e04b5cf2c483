import { open, type FileHandle } from 'node:fs/promises'
import { AppError } from '@copal/shared/errors.ts'
import {
  BLOCK_LINEARS,
  linearName,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../config/llama-config.ts'
import type { DenseMaster, MasterTensor } from './dense-model.ts'
import { readExactly, readInto } from '../../platform/positional-read.ts'

/** The weights of one decoder block, f32 row-major; linears `[d_out, d_in]`, norms `[hidden]`. */
export interface BlockWeights {
  linears: Record<BlockLinear, Float32Array<ArrayBuffer>>
  inputNorm: Float32Array<ArrayBuffer>
  postAttentionNorm: Float32Array<ArrayBuffer>
}

/**
 * Reads one tensor of the master, f32 row-major, without blocking the event loop.
 *
 * @throws AppError `unsupported_model` when the master has no such tensor or was cut short
 */
export async function loadTensor(master: DenseMaster, name: string): Promise<Float32Array<ArrayBuffer>> {
  const tensor = masterTensor(master, name)
  const file = await open(master.path)
  try {
    return await readFrom(file, master, tensor)
  } finally {
    await file.close()
  }
}

/** Allocates memory for the weights of one decoder block, not initialised. */
export function allocateBlock(config: LlamaConfig): BlockWeights {
  const linears: Partial<BlockWeights['linears']> = {}
  for (const linear of BLOCK_LINEARS) {
    const [rows, cols] = linearShape(config, linear)
    linears[linear] = new Float32Array(rows * cols)
  }
  return {
    linears: linears as BlockWeights['linears'],
    inputNorm: new Float32Array(config.hiddenSize),
    postAttentionNorm: new Float32Array(config.hiddenSize),
  }
}

/** Reads all weights of decoder block `layer` into `block`, without blocking the event loop. */
export async function readBlock(master: DenseMaster, layer: number, block: BlockWeights): Promise<void> {
  const file = await open(master.path)
  const read = (name: string, values: Float32Array<ArrayBuffer>) =>
    readInto(file, masterTensor(master, name).offset, new Uint8Array(values.buffer), master.path)
  try {
    for (const linear of BLOCK_LINEARS) await read(linearName(layer, linear), block.linears[linear])
    await read(`model.layers.${layer}.input_layernorm.weight`, block.inputNorm)
    await read(`model.layers.${layer}.post_attention_layernorm.weight`, block.postAttentionNorm)
  } finally {
    await file.close()
  }
}

function masterTensor(master: DenseMaster, name: string): MasterTensor {
  const tensor = master.tensors.get(name)
  if (tensor === undefined) throw new AppError('unsupported_model', `${master.path} holds no tensor ${name}.`)
  return tensor
}

async function readFrom(
  file: FileHandle,
  master: DenseMaster,
  { offset, bytes }: MasterTensor,
): Promise<Float32Array<ArrayBuffer>> {
  return new Float32Array((await readExactly(file, offset, bytes, master.path)).buffer)
}
