import { AppError } from '@copal/shared/errors.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { createCalibrationPass, type CalibrationPass } from '../calibration/calibration-pass.ts'
import { LostBlockError, type CreateBlockRunner } from '../calibration/block-runner.ts'
import { readDataset } from '../calibration/dataset-text.ts'
import { sampleSequences } from '../calibration/token-sequences.ts'
import { mergeArtifacts, pruneArtifacts, touchArtifacts } from '../statistics/artifact-folder.ts'
import { discardPartials, openPartial } from '../statistics/partial-artifact.ts'
import { listArtifacts, statisticsOf, type Artifact } from '../statistics/statistics-artifact.ts'
import {
  coverWanted,
  datasetPartId,
  neededStatistics,
  selectionShare,
  UPDATE_DRAW,
  wantedParts,
  type CalibrationProgress,
  type CalibrationTask,
  type DatasetFile,
} from './calibration-task.ts'

/** Maximum artifacts that are kept although they are not counted, because a failed update may be run again. */
const MAX_SPARE_ARTIFACTS = 2

/** Options of {@link gatherArtifacts}. */
export interface GatherOptions {
  /** Called between pieces of the work, which goes on when it has settled. */
  pause?: (() => Promise<void>) | undefined
  /**
   * Creates what runs the blocks of a calibration; by default the processor does. Called again after a block was lost, and must
   * then return another one.
   */
  createRunner?: CreateBlockRunner | undefined
}

/**
 * Finds the artifacts that add up to the wanted datasets, and calibrates the missing ones. A method that does not read
 * sensitivities uses artifacts with or without them, and calibrates without them.
 *
 * @param wanted distinct datasets
 */
export async function gatherArtifacts(
  model: DenseModel,
  task: CalibrationTask,
  wanted: readonly DatasetFile[],
  threads: number,
  onProgress: (progress: CalibrationProgress) => void,
  { pause, createRunner }: GatherOptions,
): Promise<Artifact[]> {
  const set = neededStatistics(task)
  const onDisk = await listArtifacts(task.statisticsDir, model.master.baseSha256)
  const { chosen, missing } = coverWanted(model, task, onDisk, wanted, set)
  await touchArtifacts(chosen)
  requireText(wanted, missing, task)
  if (missing.length === 0) return chosen
  // All texts are read before the first is calibrated, so that too little text is reported at once.
  const samples = []
  for (const dataset of wanted) {
    if (!missing.includes(dataset.sha256)) continue
    samples.push({ dataset, sequences: await readSequences(model, task, dataset) })
  }
  let pass: CalibrationPass | undefined
  try {
    const { layers } = model.config
    for (const [index, { dataset, sequences }] of samples.entries()) {
      const id = datasetPartId(model, task, dataset, set)
      const report = (done: number) =>
        onProgress({
          fraction: ((1 - selectionShare(task)) * (index + done / layers)) / samples.length,
          message: `calibrating ${dataset.domain}, block ${done} of ${layers}`,
        })
      let partial
      while (!partial) {
        pass ??= await createCalibrationPass(model, task.length, threads, {
          statistics: set,
          createRunner,
          pause,
        })
        const opened = await openPartial(task.statisticsDir, id)
        report(opened.blocksDone)
        try {
          await pass.run(sequences, opened, report)
          partial = opened
        } catch (error) {
          if (!(error instanceof LostBlockError)) throw error
          await pass.release()
          pass = undefined
        }
      }
      const { sha256: datasetSha256, domain } = dataset
      const part = { id, datasetSha256, domain, tokens: sequences.tokens.length }
      chosen.push(await partial.publish(model.master.baseSha256, part))
    }
  } finally {
    await pass?.release()
  }
  return chosen
}

/** @throws AppError `insufficient_samples` when an expired dataset is missing, which cannot be calibrated again */
function requireText(
  wanted: readonly DatasetFile[],
  missing: readonly string[],
  { selection }: CalibrationTask,
): void {
  const gone = wanted.find(({ sha256, expired }) => expired && missing.includes(sha256))
  if (!gone) return
  throw new AppError(
    'insufficient_samples',
    `The texts of a dataset of domain '${gone.domain}' have expired, and there are no statistics of it that the method ` +
      `'${selection.method}' can be used with. Use a method that needs no others, or rebuild the domain.`,
  )
}

async function readSequences(model: DenseModel, task: CalibrationTask, dataset: DatasetFile) {
  const { samples, length, seed } = task
  if (length > model.config.contextLength) {
    throw new AppError(
      'invalid_request',
      `Sequences of ${length} tokens do not fit the model's context of ${model.config.contextLength}.`,
      { param: 'length' },
    )
  }
  if (dataset.path === null)
    throw new AppError(
      'service_unavailable',
      `The statistics of a dataset of domain '${dataset.domain}' were damaged on disk. They are fetched or calibrated again.`,
    )
  const texts = await readDataset(dataset.path, dataset.sha256)
  try {
    const [separator] = model.config.eosTokenIds
    return sampleSequences(texts, model.codec, { samples, length, seed, draw: UPDATE_DRAW, separator })
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw new AppError(error.code, `Domain '${dataset.domain}': ${error.message}`, { cause: error })
  }
}

/**
 * Limits the disk space of statistics, and the number of files that an update reads. Datasets that were accumulated before
 * this task count together from now on, so their artifacts are merged to one per domain, or to two if some have
 * sensitivities. The datasets of this task are not merged, because its mask may be rolled back. Nothing is merged while a
 * half-life is set, because parts of different age then have different factors.
 *
 * @returns the artifacts on disk that hold the datasets of the task
 */
export async function tidyStatistics(
  model: DenseModel,
  task: CalibrationTask,
  artifacts: readonly Artifact[],
): Promise<Artifact[]> {
  const { statisticsDir, halfLifeDays } = task
  const { baseSha256 } = model.master
  const own = new Set(task.datasets.map(({ sha256 }) => sha256))
  const settled = wantedParts(
    model,
    task,
    task.accumulated.filter(({ sha256 }) => !own.has(sha256)),
    'moments',
  )
  if (halfLifeDays === undefined) {
    const mergeable = Map.groupBy(
      artifacts.filter(({ parts }) => parts.every(({ id }) => settled.has(id))),
      (artifact) => JSON.stringify([artifact.parts[0]?.domain, statisticsOf(artifact)]),
    )
    for (const same of mergeable.values()) if (same.length > 1) await mergeArtifacts(statisticsDir, same)
  }
  const onDisk = await listArtifacts(statisticsDir, baseSha256)
  const known = [...task.datasets, ...task.accumulated]
  const held = coverWanted(model, task, onDisk, known, neededStatistics(task)).chosen
  // A later update may read statistics that this method does not.
  const fullest = coverWanted(model, task, onDisk, known, 'all').chosen
  const keep = new Set([...held, ...fullest].map(({ id }) => id))
  await pruneArtifacts(statisticsDir, baseSha256, keep, MAX_SPARE_ARTIFACTS)
  await discardPartials(statisticsDir)
  return held
}
