import { createHash } from 'node:crypto'
import {
  BLOCK_LINEARS,
  linearName,
  type LlamaConfig,
} from '../../../gpu-node/src/model/config/llama-config.ts'
import type { DenseMaster } from '../../../gpu-node/src/model/master/dense-model.ts'
import { loadTensor } from '../../../gpu-node/src/model/master/read-master.ts'

/**
 * SHA-256 over the f32 little-endian bytes of the seven linears of every block in forward order, read
 * from the file: what `baseSha256` must equal when the master is whole.
 */
export async function hashLinears(master: DenseMaster, config: LlamaConfig): Promise<string> {
  const hash = createHash('sha256')
  for (let layer = 0; layer < config.layers; layer++) {
    for (const linear of BLOCK_LINEARS) hash.update(await loadTensor(master, linearName(layer, linear)))
  }
  return hash.digest('hex')
}
