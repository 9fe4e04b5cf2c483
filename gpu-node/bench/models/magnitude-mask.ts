import type { MaskMeta } from '@copal/shared/mask/mask-metadata.ts'
import { encodeMask, type MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import { linearShapes } from '@copal/gpu-node/model/config/llama-config.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { loadTensor } from '@copal/gpu-node/model/master/read-master.ts'

/** Creates a mask file for a model that keeps the larger half of every row; among equal magnitudes the first ones. */
export async function magnitudeHalfMask({ config, master }: DenseModel): Promise<Uint8Array> {
  const linears = new Map<string, MaskLinear>()
  for (const [name, [rows, cols]] of linearShapes(config)) {
    const magnitudes = await loadTensor(master, name)
    for (let i = 0; i < magnitudes.length; i++) magnitudes[i] = Math.abs(magnitudes[i]!)
    const stride = Math.ceil(cols / 8)
    const bits = new Uint8Array(rows * stride)
    for (let row = 0; row < rows; row++) {
      const values = magnitudes.subarray(row * cols, (row + 1) * cols)
      const median = values.toSorted()[cols / 2]!
      let ties = cols / 2
      for (let col = 0; col < cols; col++) if (values[col]! > median) ties -= 1
      for (let col = 0; col < cols; col++) {
        const value = values[col]!
        if (value > median || (value === median && ties-- > 0))
          bits[row * stride + (col >> 3)]! |= 1 << (col & 7)
      }
    }
    linears.set(name, { rows, cols, bits })
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
