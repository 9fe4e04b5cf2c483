import { checkLinear, type MaskLinear } from '@copal/shared/mask/check-linear.ts'
import { checkMaskHeader, type MaskTarget } from '@copal/shared/mask/mask-codec.ts'
import { linearPattern } from '@copal/shared/mask/mask-metadata.ts'
import { linearShapes, type LlamaConfig } from '../config/llama-config.ts'
import type { DenseMaster } from '../master/dense-model.ts'
import type { MaskFileReader } from './mask-file-reader.ts'

/** The model that a mask must fit. */
export function maskTarget(config: LlamaConfig, master: DenseMaster): MaskTarget {
  return { baseSha256: master.baseSha256, shapes: linearShapes(config) }
}

/**
 * Checks all linears of an open mask file against a model, with one in memory at a time.
 *
 * @param onLinear gets each linear once it is checked
 * @throws AppError `mask_base_mismatch`, or `mask_invalid` naming the tensor
 */
export function verifyMaskFile(
  mask: MaskFileReader,
  target: MaskTarget,
  onLinear: (name: string, linear: MaskLinear) => void = () => {},
): void {
  const { meta, linears } = mask.header
  checkMaskHeader(mask.header, target)
  for (const name of linears.keys()) {
    const linear = mask.read(name) as MaskLinear
    checkLinear(name, linear, linearPattern(meta, name), meta.scope)
    onLinear(name, linear)
  }
}
