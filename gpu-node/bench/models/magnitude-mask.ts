import type { MaskMeta } from '@copal/shared/mask/mask-metadata.ts'
import { encodeMask, type MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { linearShapes } from '@copal/gpu-node/model/config/llama-config.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { selectKept } from '@copal/gpu-node/pruning/methods/select-kept.ts'
import { loadTensor } from '@copal/gpu-node/model/master/read-master.ts'

const HALF = parsePattern('0.5')

/** Creates a mask file for a model that keeps the half of every row with the largest magnitudes. */
export async function magnitudeHalfMask({ config, master }: DenseModel): Promise<Uint8Array> {
  const linears = new Map<string, MaskLinear>()
  for (const [name, [rows, cols]] of linearShapes(config)) {
    const magnitudes = new Float64Array(await loadTensor(master, name)).map(Math.abs)
    linears.set(name, { rows, cols, bits: selectKept(magnitudes, rows, cols, HALF, 'row') })
  }
  return encodeMask({ meta: rowMaskMeta(master.baseSha256, 0.5), linears })
}

/** Returns the metadata of a mask that prunes the same part of every row. */
export function rowMaskMeta(baseSha256: string, ratio: number): MaskMeta {
  return {
    method: 'magnitude',
    pattern: String(ratio),
    scope: 'row',
    patterns: {},
    domains: ['none'],
    parent: null,
    created: '2026-01-01T00:00:00Z',
    baseSha256,
  }
}
