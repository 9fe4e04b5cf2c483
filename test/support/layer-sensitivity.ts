import { BLOCK_LINEARS } from '../../gpu-node/src/model/config.ts'
import type { DenseModel } from '../../gpu-node/src/model/dense-model.ts'
import type { LayerSensitivity } from '../../gpu-node/src/model/layer-sensitivity.ts'

/** A layer sensitivity with these divergences of blocks, and linears that all cost the same. */
export function layerSensitivityOf(model: DenseModel, blocks: number[]): LayerSensitivity {
  return {
    format: 'copal-layer-sensitivity',
    format_version: 1,
    model: model.id,
    base_sha256: model.master.baseSha256,
    created: '2026-01-01T00:00:00Z',
    mask: { sha256: '0'.repeat(64), method: 'magnitude', pattern: '0.5' },
    text: { sha256: '0'.repeat(64), windows: 1, window_tokens: 16 },
    divergence: {
      all: 1,
      linears: Object.fromEntries(
        BLOCK_LINEARS.map((name) => [name, 0.1]),
      ) as LayerSensitivity['divergence']['linears'],
      blocks,
    },
  }
}
