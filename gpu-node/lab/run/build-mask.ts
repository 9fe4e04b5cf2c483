import { mkdtemp, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { parseMethod } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import { checkPatterns, expandPatterns } from '@copal/gpu-node/pruning/selection/mask-patterns.ts'
import { statisticsOf } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import { selectToFile, type SelectedFile } from '@copal/gpu-node/pruning/selection/select-to-file.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { findStatistics, type FoundStatistics } from './find-statistics.ts'
import { explainFullDisk } from './explain-full-disk.ts'
import type { MethodVariant } from '@copal/gpu-node/pruning/methods/method-variant.ts'

/** A mask to select from existing statistics. */
export interface BuildMaskOptions {
  /** See {@link findStatistics}. */
  statisticsDir: string
  /** Null: every domain that has statistics. */
  domains: string[] | null
  variant: MethodVariant
  pattern: string
  /** Patterns of single linears, as `expandPatterns` takes them. */
  patternRules: unknown
  threads: number
  /** Path of the file to write; its folder must exist. */
  out: string
  /** ISO 8601, recorded in the file. */
  created: string
  signal: AbortSignal
  onProgress?: ((blocksDone: number, blocks: number) => void) | undefined
}

/** The selected mask, and the statistics from which it was selected. */
export interface BuiltMask extends Omit<SelectedFile, 'path'> {
  from: Pick<FoundStatistics, 'domains' | 'parts'>
}

/**
 * Selects a mask from statistics on disk, without reading text or running the model, and writes it to `out`
 * atomically.
 *
 * @throws AppError as {@link findStatistics} and `selectToFile` do; `invalid_request` for patterns that do not fit
 * the model, or several domains for a method that restarts; the signal's reason when it aborts
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
  const { needs } = parseMethod(method)
  if (needs.length === 0) return { artifacts: [], domains: [], parts: [] }
  const found = await findStatistics(statisticsDir, model, domains)
  if (datasets === 'newest' && found.domains.length > 1) {
    throw new AppError(
      'invalid_request',
      `'${method}' uses the statistics of one domain only, but there are several: ${found.domains.join(', ')}. Choose one with --domains.`,
      { param: 'domains' },
    )
  }
  if (needs.includes('sensitivity') && found.artifacts.some((one) => statisticsOf(one) !== 'all')) {
    throw new AppError(
      'invalid_request',
      `'${method}' reads sensitivities, which a service keeps only while it uses such a method. Choose another method, or calibrate with 'npx copal lab run'.`,
      { param: 'method' },
    )
  }
  return found
}
