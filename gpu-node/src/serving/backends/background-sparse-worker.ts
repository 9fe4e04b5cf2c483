/** Runs the process of one background weight set of the sparse engine or the GPU engine. */
import '../../platform/background-process.ts'
import { loadGpu } from '../../platform/gpu-addon.ts'
import { loadNative, loadNativeIfThere } from '../../platform/native-addon.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { BackgroundSparseOptions } from './background-sparse-options.ts'
import { createGpuBackend } from './gpu/gpu-backend.ts'
import { createSparseBackend } from './sparse/sparse-backend.ts'
import { serveWeightSet } from './weight-set-process/serve-weight-set.ts'

/** Tokens beside one whole context: the texts that an evaluation generates. */
const SPARE_TOKENS = 512

serveWeightSet(async (options: BackgroundSparseOptions) => {
  const {
    config,
    master,
    version,
    maskPath,
    kvTokens = config.contextLength,
    engine,
    device,
    form,
    ...settings
  } = options
  const ownTokens = Math.min(config.contextLength, kvTokens) + SPARE_TOKENS
  const size = { ...settings, kvTokens: 0, ownTokens }
  const backend =
    engine === 'gpu'
      ? createGpuBackend({ ...size, addon: loadGpu(), native: loadNativeIfThere(), device })
      : createSparseBackend({ ...size, form, addon: loadNative() })
  // The engine reads nothing else of a model.
  const model = { config, master } as DenseModel
  const weights = await backend.load({ model, version, maskPath, priority: 'background' })
  const { numerics } = weights
  return { numerics, step: async (work, drop) => (await backend.step({ weights, work, drop })).outputs }
})
