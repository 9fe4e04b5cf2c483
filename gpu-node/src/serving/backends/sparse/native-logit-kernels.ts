import type { Addon, KernelName } from '../../../../native/addon.d.ts'
import type { LogitLoops } from '../../sampling/logit-kernels.ts'
import { explained } from './model-engine.ts'

/** The loops in the addon: a token of the same logits is that of the loops in JavaScript. */
export function createNativeLoops(addon: Addon, vocabSize: number, kernel?: KernelName): LogitLoops {
  const sampler = explained(() => new addon.Sampler(kernel ?? null, vocabSize))
  return {
    draw: (logits, { temperature, minP, topK, topP }, chance) =>
      explained(() => sampler.draw(logits, temperature, minP, topK, topP, chance)),
    logSumExp: (logits) => explained(() => sampler.logSumExp(logits)),
  }
}
