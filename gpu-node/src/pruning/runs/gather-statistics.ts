import { AppError } from '@copal/shared/errors.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { createCalibrationPass } from '../calibration/calibration-pass.ts'
import { readDataset } from '../calibration/dataset-text.ts'
import { sampleSequences } from '../calibration/token-sequences.ts'
import { coverParts, mergeArtifacts, pruneArtifacts, touchArtifacts } from '../statistics/artifact-folder.ts'
import { discardPartials, openPartial } from '../statistics/partial-artifact.ts'
import { listArtifacts, type Artifact } from '../statistics/statistics-artifact.ts'
import {
  datasetPartId,
  selectionShare,
  type CalibrationProgress,
  type CalibrationTask,
  type DatasetFile,
} from './calibration-task.ts'

/** Maximum settled artifacts of one domain that are not merged into one. */
const MAX_UNMERGED_ARTIFACTS = 2
/** Maximum artifacts that are kept although they are not counted, because a failed update may be run again. */
const MAX_SPARE_ARTIFACTS = 2

/**
 * Finds the artifacts that add up to the wanted parts, and calibrates the missing parts.
 *
 * @param wanted datasets by the id of their part
 */
export async function gatherArtifacts(
  model: DenseModel,
  task: CalibrationTask,
  wanted: ReadonlyMap<string, DatasetFile>,
  threads: number,
  onProgress: (progress: CalibrationProgress) => void,
): Promise<Artifact[]> {
  const onDisk = await listArtifacts(task.statisticsDir, model.master.baseSha256)
  const { chosen, missing } = coverParts(onDisk, wanted.keys())
  await touchArtifacts(chosen)
  if (missing.length === 0) return chosen
  // All texts are read before the first is calibrated, so that too little text is reported at once.
  const samples = []
  for (const id of missing) {
    const dataset = wanted.get(id) as DatasetFile
    samples.push({ id, dataset, sequences: await readSequences(model, task, dataset) })
  }
  const pass = await createCalibrationPass(model, task.length, threads)
  try {
    const { layers } = model.config
    for (const [index, { id, dataset, sequences }] of samples.entries()) {
      const partial = await openPartial(task.statisticsDir, id)
      const report = (done: number) =>
        onProgress({
          fraction: ((1 - selectionShare(task)) * (index + done / layers)) / samples.length,
          message: `calibrating ${dataset.domain}, block ${done} of ${layers}`,
        })
      report(partial.blocksDone)
      await pass.run(sequences, partial, report)
      const { sha256: datasetSha256, domain } = dataset
      const part = { id, datasetSha256, domain, tokens: sequences.tokens.length }
      chosen.push(await partial.publish(model.master.baseSha256, part))
    }
  } finally {
    await pass.release()
  }
  return chosen
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
  const texts = await readDataset(dataset.path, dataset.sha256)
  try {
    const [separator] = model.config.eosTokenIds
    return sampleSequences(texts, model.codec, { samples, length, seed, separator })
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw new AppError(error.code, `Domain '${dataset.domain}': ${error.message}`, { cause: error })
  }
}

/**
 * Limits the disk space of statistics. Datasets that were accumulated before this task always count together from now on, so
 * their artifacts are merged per domain. The datasets of this task are not merged, because its mask may be rolled back.
 */
export async function tidyStatistics(
  model: DenseModel,
  task: CalibrationTask,
  artifacts: readonly Artifact[],
): Promise<void> {
  const settled = new Set(task.accumulated.map((dataset) => datasetPartId(model, task, dataset)))
  for (const { sha256: hash } of task.datasets) {
    settled.delete(datasetPartId(model, task, { sha256: hash }))
  }
  const keep = new Set(artifacts.map(({ id }) => id))
  // A later update may read statistics that this method does not.
  const known = [...task.datasets, ...task.accumulated].map((dataset) => datasetPartId(model, task, dataset))
  const onDisk = await listArtifacts(task.statisticsDir, model.master.baseSha256)
  for (const { id } of coverParts(onDisk, known).chosen) keep.add(id)
  const byDomain = Map.groupBy(
    artifacts.filter(({ parts }) => parts.every(({ id }) => settled.has(id))),
    ({ parts }) => parts[0]?.domain,
  )
  for (const mergeable of byDomain.values()) {
    if (mergeable.length > MAX_UNMERGED_ARTIFACTS)
      keep.add((await mergeArtifacts(task.statisticsDir, mergeable)).id)
  }
  await pruneArtifacts(task.statisticsDir, model.master.baseSha256, keep, MAX_SPARE_ARTIFACTS)
  await discardPartials(task.statisticsDir)
}
