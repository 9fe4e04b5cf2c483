import type { MaskMeta } from '@copal/shared/mask/mask-codec.ts'
import type { MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { createMaskFileWriter } from '../../model/mask-file/mask-file-writer.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { withAllocation } from './allocate-ratios.ts'
import { chooseMask, type ChosenLinear, type MaskSelection } from './choose-mask.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { linearShapes } from '../../model/config/llama-config.ts'
import type { ErrorReduction } from '../refinement/exchange-pool.ts'

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
  swaps: Record<string, ErrorReduction> | null
  /** What reconstruction won, by linear; null where the method has none. */
  reconstruction: Record<string, ErrorReduction> | null
}

/** What is chosen, and the file that it is written to. */
export interface FileSelection extends Pick<
  MaskSelection,
  'artifacts' | 'selection' | 'threads' | 'onBlock'
> {
  model: Pick<DenseModel, 'config' | 'master' | 'layerSensitivity' | 'rowSensitivity'>
  /** Said in the file. */
  metadata: Pick<MaskMeta, 'domains' | 'parent' | 'created'>
  /** Gets the file, named by its hash. */
  dir: string
}

/**
 * Chooses a mask (see {@link chooseMask}) and writes it, one linear in memory at a time: as a weights file where
 * the method changes weights, else as a mask file.
 *
 * @throws what {@link chooseMask} throws; nothing stays behind then
 */
export async function selectToFile(file: FileSelection): Promise<SelectedFile> {
  const { model, metadata, dir, selection: requested, ...choice } = file
  const selection = withAllocation(model, requested)
  const { method: name, pattern, scope, patterns = {} } = selection
  const method = parseMethod(name)
  const meta = { ...metadata, method: name, pattern, scope, patterns, baseSha256: model.master.baseSha256 }
  const kind = method.changesWeights ? 'weights' : 'mask'
  const writer = await createMaskFileWriter(dir, meta, linearShapes(model.config), kind)
  const swaps: Record<string, ErrorReduction> = {}
  const reconstruction: Record<string, ErrorReduction> = {}
  try {
    const onLinear = async (linear: ChosenLinear) => {
      await writer.add(linear.name, linear)
      if (linear.swaps) swaps[linear.name] = linear.swaps
      if (linear.reconstruction) reconstruction[linear.name] = linear.reconstruction
    }
    await chooseMask({ ...choice, model, selection, onLinear })
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
