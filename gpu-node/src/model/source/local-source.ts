import { stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { isErrno } from '../../platform/errno.ts'

/** The files of a model on this machine. */
export type ModelFiles =
  /** Weights, configuration and tokenizer in one file. */
  | { kind: 'gguf'; path: string; name: string }
  /** A safetensors file or index beside config.json and tokenizer.json in `dir`. */
  | { kind: 'directory'; dir: string; weights: string; name: string }

/**
 * Finds the model at a local path: a `.gguf`, a `.safetensors` beside its config.json, or a directory
 * in Hugging Face layout.
 *
 * @throws AppError `model_not_found` when there is nothing, `unsupported_model` when it is no model
 */
export async function findLocalModel(path: string): Promise<ModelFiles> {
  const kind = await kindOf(path)
  if (kind === undefined) {
    throw new AppError(
      'model_not_found',
      `There is no file or directory ${path}. Check the path of the model.`,
    )
  }
  if (kind === 'directory') return findInDirectory(path)
  if (path.endsWith('.gguf')) return { kind: 'gguf', path, name: basename(path) }
  if (path.endsWith('.safetensors')) {
    const dir = dirname(path)
    await requireConfig(dir)
    return { kind: 'directory', dir, weights: path, name: basename(dir) }
  }
  throw new AppError(
    'unsupported_model',
    `${path} is not a model: expected a .gguf file, a .safetensors file, or a directory with config.json.`,
  )
}

async function findInDirectory(dir: string): Promise<ModelFiles> {
  await requireConfig(dir)
  for (const name of ['model.safetensors.index.json', 'model.safetensors']) {
    const weights = join(dir, name)
    if ((await kindOf(weights)) === 'file') return { kind: 'directory', dir, weights, name: basename(dir) }
  }
  throw new AppError(
    'unsupported_model',
    `${dir} holds neither model.safetensors nor model.safetensors.index.json. Other weight formats are not supported.`,
  )
}

async function requireConfig(dir: string): Promise<void> {
  if ((await kindOf(join(dir, 'config.json'))) === 'file') return
  throw new AppError('unsupported_model', `${dir} holds no config.json, which says what the weights mean.`)
}

async function kindOf(path: string): Promise<'file' | 'directory' | undefined> {
  try {
    return (await stat(path)).isDirectory() ? 'directory' : 'file'
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
