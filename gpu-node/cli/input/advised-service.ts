import { DEFAULT_MODEL } from '@copal/gpu-node/model/source/resolve-model.ts'
import type { AdviceSubject } from '@copal/gpu-node/serving/advice/advice.ts'
import type { Precision } from '@copal/gpu-node/native/addon.d.ts'
import { PRECISIONS } from '@copal/gpu-node/serving/contract/backend.ts'
import type { Terminal } from '../output/terminal.ts'
import { modelLocation } from './model-option.ts'

/**
 * Returns the model, and how a node with these settings serves it, which is what `copal advise` compares with.
 *
 * @param mask name of the active mask, like `m3`; null is dense
 */
export function advisedService(
  terminal: Pick<Terminal, 'cwd' | 'env'>,
  mask: string | null,
  model?: string,
): { cacheDir: string; model: string; now: AdviceSubject } {
  const { env } = terminal
  const precision = PRECISIONS.find((name) => name === env.COPAL_PRECISION) ?? 'bf16'
  return {
    ...modelLocation(model ?? (env.COPAL_MODEL || DEFAULT_MODEL), terminal),
    now: { mask, precision, form: fixedForm(env, precision) },
  }
}

/** Returns the form of pruned weights if it is fixed; null if the node chooses it. */
function fixedForm(env: Terminal['env'], precision: Precision): AdviceSubject['form'] {
  // On a GPU each precision has one form.
  if (env.COPAL_BACKEND === 'gpu') return precision === 'int8' ? 'dense' : 'packed'
  return env.COPAL_FORM === 'packed' || env.COPAL_FORM === 'dense' ? env.COPAL_FORM : null
}
