import { encodeMask, type MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import { BLOCK_LINEARS, linearName, linearShape } from '../../../gpu-node/src/model/config/llama-config.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { packValues } from '@copal/shared/mask/packed-values.ts'
import { createRandom, normals } from '../harness/random.ts'

/**
 * Returns a seeded mask of a model that keeps exactly half of every row, as a file's bytes and as bits.
 *
 * @param change `values`: a weights file, whose values have nothing to do with the dense weights; `dense`: names of
 * linears left dense
 */
export function randomHalfMask(
  model: DenseModel,
  seed: number,
  baseSha256 = model.master.baseSha256,
  change: { values?: boolean; dense?: readonly string[] } = {},
): { bytes: Uint8Array<ArrayBuffer>; linears: Map<string, MaskLinear> } {
  const random = createRandom(seed)
  const linears = new Map<string, MaskLinear>()
  for (let layer = 0; layer < model.config.layers; layer++) {
    for (const linear of BLOCK_LINEARS) {
      const [rows, cols] = linearShape(model.config, linear)
      const bits = new Uint8Array(rows * Math.ceil(cols / 8))
      for (let row = 0; row < rows; row++) {
        const order = Array.from({ length: cols }, (_, col) => ({ col, key: random() }))
        order.sort((a, b) => a.key - b.key)
        for (const { col } of order.slice(0, cols / 2))
          bits[row * Math.ceil(cols / 8) + (col >> 3)]! |= 1 << (col & 7)
      }
      const name = linearName(layer, linear)
      if (change.dense?.includes(name)) continue
      const values = () =>
        packValues(name, bits, normals(random, rows * cols, 0, 1 / Math.sqrt(cols)), rows, cols)
      linears.set(name, { rows, cols, bits, ...(change.values ? { values: values() } : {}) })
    }
  }
  const meta = {
    method: 'random',
    pattern: '0.5',
    scope: 'row' as const,
    patterns: Object.fromEntries((change.dense ?? []).map((name) => [name, 'dense'])),
    domains: ['legal'],
    parent: null,
    created: '2026-01-01T00:00:00Z',
    baseSha256,
  }
  return { bytes: encodeMask({ meta, linears }), linears }
}
