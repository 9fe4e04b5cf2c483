import { availableParallelism } from 'node:os'
import type { Command } from 'commander'
import type { TextMeasurementOptions } from '@copal/gpu-node/pruning/sensitivity/text-measurement.ts'
import { writeAtomically } from '@copal/gpu-node/platform/atomic-file.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { DEFAULT_MODEL } from '@copal/gpu-node/model/source/resolve-model.ts'
import { interruptible } from '../../output/interruptible.ts'
import { modelLocation } from '../../input/model-option.ts'
import { outputFile } from '@copal/gpu-node/platform/path-arguments.ts'
import { createProgressBar } from '../../output/progress-bar.ts'
import type { Session } from '../../api/session.ts'
import { positiveNumber, windowTokens } from '../../options/option-parsers.ts'

/** Options that {@link addTextOptions} adds. */
export interface TextOptions {
  text: string
  model: string
  windows: number
  windowTokens: number
  threads: number
  out?: string
  json?: boolean
}

/** Adds the options of commands that measure a model on a text, once for all masks. */
export function addTextOptions(
  command: Command,
  defaults: { windows: number; windowTokens: number },
): Command {
  return command
    .requiredOption('--text <file>', 'text to measure on: plain or .jsonl, optionally gzipped')
    .option('--model <source>', 'a path, pypi:<package>==<version> or hf:<org>/<name>', DEFAULT_MODEL)
    .option(
      '--windows <n>',
      'number of windows, from the start of the text',
      positiveNumber,
      defaults.windows,
    )
    .option('--window-tokens <n>', 'tokens per window', windowTokens, defaults.windowTokens)
    .option('--threads <n>', 'number of threads', positiveNumber, availableParallelism())
    .option('--out <file>', 'where to write the result (default: where the methods look for it)')
    .option('--json', 'print JSON')
}

/**
 * Opens the model, splits the text into windows, measures with a progress bar, and writes the result.
 *
 * @param pathOf returns the default path of the result
 * @returns the result and its path
 * @throws UserError `interrupted`; errors of the model, the text and the measurement. Nothing is written then.
 */
export async function measureOnText<T>(
  { terminal }: Session,
  options: TextOptions,
  pathOf: (cacheDir: string, baseSha256: string) => string,
  measure: (model: DenseModel, work: TextMeasurementOptions) => Promise<T>,
  encode: (found: T) => string,
): Promise<{ found: T; path: string }> {
  const { openModel } = await import('@copal/gpu-node/model/open-model.ts')
  const { requireContext } = await import('@copal/gpu-node/pruning/evaluation/evaluate-windows.ts')
  const { cutEvaluationWindows } = await import('@copal/lab/texts/evaluation-windows.ts')
  const { readTextInput } = await import('@copal/lab/texts/text-input.ts')
  const bar = createProgressBar(terminal.stderr)
  const { model: spec, cacheDir } = modelLocation(options.model, terminal)
  const { signal } = terminal
  const out = options.out === undefined ? undefined : outputFile(options.out, terminal.cwd)
  return interruptible(signal, bar, 'Stopped. Nothing was written.', async () => {
    const model = await openModel(spec, { cacheDir, signal })
    requireContext(model, options.windowTokens)
    const { texts, sha256 } = await readTextInput(options.text, 'text', terminal.cwd)
    const { windows } = cutEvaluationWindows(texts, model.codec, options.windowTokens, options.windows)
    const path = out ?? pathOf(cacheDir, model.master.baseSha256)
    const found = await measure(model, {
      windows,
      textSha256: sha256,
      threads: options.threads,
      cacheDir,
      created: new Date().toISOString(),
      signal,
      onProgress: (fraction, message) => bar.update('Measuring', fraction, message),
    })
    await writeAtomically(path, encode(found))
    return { found, path }
  })
}
