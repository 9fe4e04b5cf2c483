import { mkdtemp, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { parseMethod } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import { checkPatterns, expandPatterns } from '@copal/gpu-node/pruning/selection/mask-patterns.ts'
import { selectToFile, type SelectedFile } from '@copal/gpu-node/pruning/selection/select-to-file.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { findStatistics, type FoundStatistics } from './find-statistics.ts'
import { explainFullDisk } from './explain-full-disk.ts'
import type { MethodVariant } from '@copal/gpu-node/pruning/methods/method-variant.ts'

/** A mask to be selected from statistics that are there. */
export interface BuildMaskOptions {
  /** See {@link findStatistics}. */
  statisticsDir: string
  /** Null: all that there are statistics of. */
  domains: string[] | null
  variant: MethodVariant
  pattern: string
  /** Rules for single linears as `expandPatterns` takes them. */
  patternRules: unknown
  threads: number
  /** The file to be written, into a folder that is there. */
  out: string
  /** ISO 8601, into the file. */
  created: string
  signal: AbortSignal
  onProgress?: ((blocksDone: number, blocks: number) => void) | undefined
}

/** What was selected, from what. */
export interface BuiltMask extends Omit<SelectedFile, 'path'> {
  from: Pick<FoundStatistics, 'domains' | 'parts'>
}

/**
 * Selects a mask again from statistics on disk, with no text and no pass over the model, and puts it at `out`, whole
 * or not at all.
 *
 * @throws AppError as {@link findStatistics} and `selectToFile` do; `invalid_request` patterns that do not fit, or
 * several domains for a method that restarts; the reason of the signal
 */
export async function buildMask(model: DenseModel, options: BuildMaskOptions): Promise<BuiltMask> {
  const { variant, pattern, out, signal } = options
  const { config } = model
  const patterns = expandPatterns(config, options.patternRules)
  const selection = { method: variant.method, pattern, scope: variant.scope, patterns }
  checkPatterns(config, selection)
  const from = await statisticsFor(variant, model, options)
  const scratch = await mkdtemp(join(dirname(out), '.copal-'))
  try {
    const { path, ...file } = await selectToFile({
      model,
      artifacts: from.artifacts,
      selection,
      metadata: { domains: from.domains, parent: null, created: options.created },
      dir: scratch,
      threads: options.threads,
      onBlock: (done) => {
        signal.throwIfAborted()
        options.onProgress?.(done, config.layers)
      },
    })
    await rename(path, out)
    return { ...file, from }
  } catch (error) {
    throw explainFullDisk(error, `a mask in ${dirname(out)}`)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function statisticsFor(
  { method, datasets }: MethodVariant,
  model: DenseModel,
  { statisticsDir, domains }: BuildMaskOptions,
): Promise<FoundStatistics> {
  if (parseMethod(method).needs.length === 0) return { artifacts: [], domains: [], parts: [] }
  const found = await findStatistics(statisticsDir, model, domains)
  if (datasets === 'newest' && found.domains.length > 1) {
    throw new AppError(
      'invalid_request',
      `'${method}' reads the newest domain alone, and there are ${found.domains.join(', ')}: name one with --domains.`,
      { param: 'domains' },
    )
  }
  return found
}
