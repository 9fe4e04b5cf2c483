import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { AppError } from '@copal/shared/errors.ts'
import { maskFileChurn, openMaskFile } from '../../model/mask-file/mask-file-reader.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { withAllocation } from '../selection/allocate-ratios.ts'
import type { ChosenLinear, MaskSelection } from '../selection/choose-mask.ts'
import { checkPatterns, expandPatterns } from '../selection/mask-patterns.ts'
import { selectToFile } from '../selection/select-to-file.ts'
import { discardArtifact } from '../statistics/artifact-folder.ts'
import { DamagedArtifactError, type Artifact } from '../statistics/statistics-artifact.ts'
import { openStatisticsFolder, writeCountedParts, type CountedPart } from '../statistics/statistics-folder.ts'
import {
  countedDatasets,
  selectionShare,
  type CalibrationOutcome,
  type CalibrationProgress,
  type CalibrationTask,
} from './calibration-task.ts'
import { decayFactors } from './half-life.ts'
import { gatherArtifacts, tidyStatistics, type GatherOptions } from './gather-statistics.ts'

/** Options of {@link calibrateAndSelect} beside its task. */
export interface RunOptions extends GatherOptions, Pick<MaskSelection, 'createExchange'> {
  /** Called when the statistics are there, and what calibrated them was released. */
  onCalibrated?: (() => void) | undefined
}

/**
 * Calibrates the datasets whose statistics are missing, selects from the sum of statistics, and writes the mask file or
 * weights file. The same task gives the same bytes, whatever statistics were on disk before, and however often the process was
 * killed and started again, on the same devices.
 *
 * @throws AppError `insufficient_samples`, `invalid_request`, `mask_invalid` (of the parent mask), `unsupported_model`
 * (weights or activations are not finite)
 */
export async function calibrateAndSelect(
  model: DenseModel,
  given: CalibrationTask,
  threads: number,
  onProgress: (progress: CalibrationProgress) => void,
  options: RunOptions = {},
): Promise<CalibrationOutcome> {
  const task = { ...given, statisticsDir: await openStatisticsFolder(given.statisticsDir, model) }
  const { config } = model
  const patterns = expandPatterns(config, task.selection.patterns ?? {})
  const selection = withAllocation(model, { ...task.selection, patterns })
  checkPatterns(config, selection)
  const wanted = [...new Map(countedDatasets(task).map((dataset) => [dataset.sha256, dataset])).values()]
  const needsStatistics = parseMethod(task.selection.method).datasets !== 'none'
  if (needsStatistics && wanted.length === 0) {
    throw new AppError('insufficient_samples', 'There is no dataset to calibrate on. Name at least one.')
  }
  const { parentMaskPath, compareMaskPath, halfLifeDays } = task
  const metadata = {
    domains: [...new Set(wanted.map(({ domain }) => domain))].sort(),
    parent: parentMaskPath === null ? null : await hashMaskFile(parentMaskPath),
    created: task.created,
  }
  for (let repairs = 0; ; repairs++) {
    try {
      const calibrateStart = performance.now()
      const artifacts = needsStatistics
        ? await gatherArtifacts(model, task, wanted, threads, onProgress, options)
        : []
      options.onCalibrated?.()
      const selectStart = performance.now()
      const share = selectionShare(task)
      const { path, sha256, bytes, scope, sparsity, swaps, reconstruction } = await selectToFile({
        model,
        artifacts,
        factors: halfLifeDays === undefined ? undefined : decayFactors(artifacts, wanted, halfLifeDays),
        selection,
        metadata,
        dir: task.workDir,
        threads,
        createExchange: options.createExchange,
        pause: options.pause,
        onBlock: (done, chosen) =>
          onProgress({
            fraction: 1 - share + (share * done) / config.layers,
            message: describeSelection(done, config.layers, chosen),
          }),
      })
      const selectMs = performance.now() - selectStart
      const held = await tidyStatistics(model, task, artifacts)
      await writeCountedParts(task.statisticsDir, countedParts(task, held))
      return {
        maskPath: path,
        maskSha256: sha256,
        maskBytes: bytes,
        scope,
        sparsity,
        churn: parentMaskPath === null ? null : maskFileChurn(parentMaskPath, path),
        ...(compareMaskPath === undefined ? {} : { agreement: 1 - maskFileChurn(compareMaskPath, path) }),
        tokens: artifacts
          .flatMap(({ parts }) => parts)
          .map(({ datasetSha256, tokens }) => ({ sha256: datasetSha256, tokens })),
        calibrateMs: selectStart - calibrateStart,
        selectMs,
        artifacts: held,
        ...(swaps ? { swaps } : {}),
        ...(reconstruction ? { reconstruction } : {}),
      }
    } catch (error) {
      // Damaged statistics are calibrated again. The number of repairs is limited in case the disk damages all data.
      if (!(error instanceof DamagedArtifactError) || repairs > wanted.length) throw error
      await discardArtifact(task.statisticsDir, error.artifactId)
    }
  }
}

/** Returns the parts of the datasets of a task, with the names that their domains have in the task. */
function countedParts(task: CalibrationTask, held: readonly Artifact[]): CountedPart[] {
  const domains = new Map(
    [...task.datasets, ...task.accumulated].map(({ sha256, domain }) => [sha256, domain]),
  )
  return held.flatMap(({ parts }) =>
    parts.map(({ id, datasetSha256, domain }) => ({ id, domain: domains.get(datasetSha256) ?? domain })),
  )
}

/** Returns the progress message, with the relative output error that the last refinement left. */
function describeSelection(
  done: number,
  layers: number,
  chosen: readonly Pick<ChosenLinear, 'swaps' | 'reconstruction'>[],
): string {
  const where = `block ${done} of ${layers}`
  const reconstructed = chosen.flatMap(({ reconstruction }) => reconstruction ?? [])
  const gains = reconstructed.length > 0 ? reconstructed : chosen.flatMap(({ swaps }) => swaps ?? [])
  if (gains.length === 0) return `selecting weights, ${where}`
  const left =
    gains.reduce((sum, { before, after }) => sum + (before > 0 ? after / before : 1), 0) / gains.length
  const doing = reconstructed.length > 0 ? 'reconstructing' : 'exchanging'
  return `${doing} weights, ${where}: ${(100 * left).toFixed(0)} % of its output error left`
}

/**
 * Returns the SHA-256 of a mask file.
 *
 * @throws AppError `mask_invalid` when it is not a mask file
 */
async function hashMaskFile(path: string): Promise<string> {
  openMaskFile(path).close()
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
