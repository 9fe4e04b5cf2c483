import type { Addon, KernelName } from '../../../../native/addon.d.ts'
import type { LogitKernels } from '../../sampling/logit-kernels.ts'
import { explained } from './model-engine.ts'

/** Creates the kernels of the addon. They draw the same tokens as the kernels in JavaScript. */
export function createNativeLogitKernels(addon: Addon, vocabSize: number, kernel?: KernelName): LogitKernels {
  const sampler = explained(() => new addon.Sampler({ kernel, vocabSize }))
  /** The settings of a draw in the order that `addon.d.ts` documents; reused for every token. */
  const settings = new Float64Array(5)
  return {
    draw(logits, { temperature, minP, topK, topP }, chance) {
      settings[0] = temperature
      settings[1] = minP
      settings[2] = topK
      settings[3] = topP
      settings[4] = chance
      return explained(() => sampler.draw(logits, settings))
    },
    logSumExp: (logits) => explained(() => sampler.logSumExp(logits)),
  }
}
