import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { encodeMask, type MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import { keptCounts } from '@copal/shared/mask/sparsity-pattern.ts'
import { linearShapes, type LlamaConfig } from '@copal/gpu-node/model/config/llama-config.ts'
import type { DenseMaster, DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { masterLayout } from '@copal/gpu-node/model/master/master-file.ts'
import { rowMaskMeta } from './magnitude-mask.ts'
import { normalTile } from './normal-tile.ts'
import { randomBits } from './random-bits.ts'

/** A placeholder hash that joins a mask made here to a master made here. */
const BASE_SHA256 = '0'.repeat(64)

/** Shapes of published LLaMAs; the embedding is also the head. */
export const RANDOM_SHAPES = {
  '1.1b': { hiddenSize: 2048, intermediateSize: 5632, heads: 32, kvHeads: 4, headDim: 64, wholeLayers: 22 },
  '7b': { hiddenSize: 4096, intermediateSize: 11008, heads: 32, kvHeads: 32, headDim: 128, wholeLayers: 32 },
} as const
/** The name of a shape in {@link RANDOM_SHAPES}. */
export type RandomShape = keyof typeof RANDOM_SHAPES

/** Returns the configuration of a shape with the given number of layers. */
export function randomConfig(shape: RandomShape, layers: number): LlamaConfig {
  const { wholeLayers, ...sizes } = RANDOM_SHAPES[shape]
  return {
    ...sizes,
    layers: Math.min(layers, wholeLayers),
    vocabSize: 32_000,
    ropeTheta: 10_000,
    ropeScaling: null,
    rmsNormEps: 1e-5,
    contextLength: 2048,
    tiedEmbedding: true,
    bosTokenId: 1,
    eosTokenIds: [2],
  }
}

/**
 * Writes a master of seeded random weights, whose deviation keeps the size of activations, and a mask that keeps a
 * random half of every eight weights.
 *
 * @param dir exists; needs four bytes a weight
 */
export async function writeRandomModel(
  dir: string,
  config: LlamaConfig,
): Promise<{ master: DenseMaster; maskPath: string }> {
  const master = await writeRandomMaster(join(dir, 'random.safetensors'), config)
  const maskPath = join(dir, 'mask.safetensors')
  await writeRandomMask(maskPath, { config, master }, 0.5)
  return { master, maskPath }
}

/** Writes a master of seeded random weights; needs four bytes of disk a weight. */
export async function writeRandomMaster(path: string, config: LlamaConfig): Promise<DenseMaster> {
  const { header, tensors, fileBytes } = masterLayout(config, { format: 'copal-dense' })
  const tile = new Uint8Array(normalTile(1 / Math.sqrt(config.hiddenSize)).buffer)
  const file = await open(path, 'w')
  try {
    await file.writeFile(header)
    for (let left = fileBytes - header.length; left > 0; left -= tile.length)
      await file.writeFile(tile.subarray(0, left))
  } finally {
    await file.close()
  }
  return { path, tensors, baseSha256: BASE_SHA256 }
}

/** Writes a seeded mask that prunes `ratio` of every row, as evenly as whole weights of every eight allow. */
export async function writeRandomMask(
  path: string,
  { config, master }: Pick<DenseModel, 'config' | 'master'>,
  ratio: number,
): Promise<void> {
  const draw = randomBits(2)
  const bytesOf = Array.from({ length: 9 }, (_, kept) =>
    Array.from({ length: 256 }, (__, byte) => byte).filter((byte) => ones(byte) === kept),
  )
  const linears = new Map<string, MaskLinear>()
  for (const [name, [rows, cols]] of linearShapes(config)) {
    const { kept } = keptCounts({ kind: 'ratio', ratio }, 'row', rows, cols)
    const stride = cols / 8
    const before = (byte: number) => Math.floor((byte * kept) / stride)
    const bits = Uint8Array.from({ length: rows * stride }, (_, index) => {
      const byte = index % stride
      const bytes = bytesOf[before(byte + 1) - before(byte)] ?? []
      return bytes[(draw() >>> 0) % bytes.length] ?? 0
    })
    linears.set(name, { rows, cols, bits })
  }
  await writeFile(path, encodeMask({ meta: rowMaskMeta(master.baseSha256, ratio), linears }))
}

function ones(byte: number): number {
  return byte === 0 ? 0 : (byte & 1) + ones(byte >> 1)
}
