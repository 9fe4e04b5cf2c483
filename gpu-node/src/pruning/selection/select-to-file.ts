import type { MaskMeta } from '@copal/shared/mask/mask-codec.ts'
import type { MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { createMaskFileWriter } from '../../model/mask-file/mask-file-writer.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { withAllocation } from './allocate-ratios.ts'
import { chooseMask, type ChosenLinear, type MaskSelection } from './choose-mask.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { linearShapes } from '../../model/config/llama-config.ts'
import type { ErrorReduction } from '../refinement/exchange-refiner.ts'

/** A mask file or weights file that {@link selectToFile} wrote. */
export interface SelectedFile {
  /** `<dir>/<sha256>.safetensors` */
  path: string
  sha256: string
  bytes: number
  /** The scope of its ratios: `matrix` for methods with `+rows`, else the requested one. */
  scope: MaskScope
  /** Fraction of pruned weights among the weights of all linears, including those left dense. */
  sparsity: number
  /** Error reduction by exchange, by linear; null if the method has none. */
  swaps: Record<string, ErrorReduction> | null
  /** Error reduction by reconstruction, by linear; null if the method has none. */
  reconstruction: Record<string, ErrorReduction> | null
}

/** Options of {@link selectToFile}. */
export interface FileSelection extends Pick<
  MaskSelection,
  'artifacts' | 'factors' | 'selection' | 'threads' | 'createExchange' | 'onBlock'
> {
  model: Pick<DenseModel, 'config' | 'master' | 'layerSensitivity' | 'rowSensitivity'>
  /** Metadata for the file. */
  metadata: Pick<MaskMeta, 'domains' | 'parent' | 'created'>
  /** Folder for the file, which is named by its hash. */
  dir: string
  /** Called after each linear; the work goes on when it has settled. */
  pause?: (() => Promise<void>) | undefined
}

/**
 * Chooses a mask (see {@link chooseMask}) and writes it as a weights file if the method changes weights, else as a mask file.
 * One linear is in memory at a time. After an error no file is left.
 *
 * @throws as {@link chooseMask}
 */
export async function selectToFile(file: FileSelection): Promise<SelectedFile> {
  const { model, metadata, dir, pause, selection: requested, ...choice } = file
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
      await pause?.()
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
