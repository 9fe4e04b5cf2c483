import { linearShapes } from '../../../gpu-node/src/model/config/llama-config.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import type { LayerSensitivity } from '../../../gpu-node/src/model/sensitivities/layer-sensitivity.ts'
import { QUANTILES, type RowSensitivity } from '../../../gpu-node/src/model/sensitivities/row-sensitivity.ts'

/** Returns a layer sensitivity, measured at one half, in which the loss of a linear is that of its block. */
export function layerSensitivityOf(model: DenseModel, blocks: number[]): LayerSensitivity {
  const names = [...linearShapes(model.config).keys()]
  const linears = names.map((name) => {
    const [, block = ''] = /layers\.(\d+)\./.exec(name) ?? []
    return [name, { ratio: 0.5, loss: blocks[Number(block)] ?? 0 }] as const
  })
  return {
    format: 'copal-layer-sensitivity',
    format_version: 2,
    model: model.id,
    base_sha256: model.master.baseSha256,
    created: '2026-01-01T00:00:00Z',
    mask: { sha256: '0'.repeat(64), method: 'magnitude', pattern: '0.5' },
    text: { sha256: '0'.repeat(64), windows: 1, window_tokens: 16 },
    divergence: 1,
    linears: Object.fromEntries(linears),
  }
}

/**
 * Returns a row sensitivity in which every row costs a quarter more than the row before, and the worth of weights falls from
 * block to block.
 */
export function rowSensitivityOf(model: DenseModel): RowSensitivity {
  const linears = [...linearShapes(model.config)].map(([name, [rows]]) => {
    const [, block = ''] = /layers\.(\d+)\./.exec(name) ?? []
    const costs = Float32Array.from({ length: rows }, (_, row) => 1.25 ** (row % 16))
    const worth = Array.from({ length: QUANTILES - 1 }, (_, k) => 0.1 * k - Number(block))
    return [name, { rows: costs, worth }] as const
  })
  return {
    format: 'copal-row-sensitivity',
    format_version: 1,
    model: model.id,
    base_sha256: model.master.baseSha256,
    created: '2026-01-01T00:00:00Z',
    text: { sha256: '0'.repeat(64), windows: 1, window_tokens: 16 },
    nll_mean: 5,
    linears: Object.fromEntries(linears),
  }
}
