import type { MaskMeta } from '@copal/shared/mask/mask-codec.ts'
import type { MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import type { SelectionSpec } from '@copal/shared/wire/node-rpc.ts'
import { createMaskFileWriter } from '../../model/mask-file/mask-file-writer.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { Artifact } from '../statistics/statistics-artifact.ts'
import { withShares } from './allocate-ratios.ts'
import { chooseMask, type ChosenLinear } from './choose-mask.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { linearShapes } from '../../model/config/llama-config.ts'
import type { SwapGain } from '../refinement/exchange-pool.ts'

/** A file that was selected. */
export interface SelectedFile {
  /** `<dir>/<sha256>.safetensors` */
  path: string
  sha256: string
  bytes: number
  /** What its ratios are counted over: of a method whose rows share, the matrix whatever was asked for. */
  scope: MaskScope
  /** Pruned weights over those of all linears, those left dense included. */
  sparsity: number
  /** What the swaps won, by linear; null where the method has none. */
  swaps: Record<string, SwapGain> | null
  /** What reconstruction won, by linear; null where the method has none. */
  reconstruction: Record<string, SwapGain> | null
}

/**
 * Chooses a mask (see {@link chooseMask}) and writes it, one linear in memory at a time: as a weights file where
 * the method changes weights, else as a mask file.
 *
 * @param onBlock called with the number of blocks done and what was chosen in the last, without weights
 * @throws what {@link chooseMask} throws; nothing stays behind then
 */
export async function selectToFile(
  model: Pick<DenseModel, 'config' | 'master' | 'layerSensitivity' | 'rowSensitivity'>,
  artifacts: readonly Artifact[],
  selection: SelectionSpec,
  about: Pick<MaskMeta, 'domains' | 'parent' | 'created'>,
  dir: string,
  threads: number,
  onBlock: (done: number, chosen: readonly Pick<ChosenLinear, 'swaps' | 'reconstruction'>[]) => void,
): Promise<SelectedFile> {
  const shared = withShares(model, selection)
  const { method: name, pattern, scope, patterns = {} } = shared
  const method = parseMethod(name)
  const meta = { ...about, method: name, pattern, scope, patterns, baseSha256: model.master.baseSha256 }
  const kind = method.changesWeights ? 'weights' : 'mask'
  const writer = await createMaskFileWriter(dir, meta, linearShapes(model.config), kind)
  const swaps: Record<string, SwapGain> = {}
  const reconstruction: Record<string, SwapGain> = {}
  try {
    const write = async (linear: ChosenLinear) => {
      await writer.add(linear.name, linear)
      if (linear.swaps) swaps[linear.name] = linear.swaps
      if (linear.reconstruction) reconstruction[linear.name] = linear.reconstruction
    }
    await chooseMask(model, artifacts, shared, threads, write, onBlock)
    return {
      ...(await writer.finish()),
      scope,
      swaps: method.swaps ? swaps : null,
      reconstruction: method.reconstruct ? reconstruction : null,
    }
  } finally {
    await writer.discard()
  }
}
