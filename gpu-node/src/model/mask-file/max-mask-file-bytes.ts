import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { MAX_MASK_HEADER_BYTES } from '@copal/shared/mask/mask-header.ts'
import { linearShapes, type LlamaConfig } from '../config/llama-config.ts'

/** Returns the size that no mask file of a model exceeds: every linear is masked, and every value is stored in bf16. */
export function maxMaskFileBytes(config: LlamaConfig): number {
  const linears = [...linearShapes(config).values()]
  return linears.reduce(
    (sum, [rows, cols]) => sum + rows * rowBytes(cols) + 2 * rows * cols,
    MAX_MASK_HEADER_BYTES,
  )
}
