import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { AppError } from '@copal/shared/errors.ts'
import type { CalibrateResult, SelectionSpec } from '@copal/shared/wire/node-rpc.ts'
import { maskFileChurn, openMaskFile } from '../../model/mask-file/mask-file-reader.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import {
  DamagedArtifactError,
  listArtifacts,
  partId,
  type Artifact,
} from '../statistics/statistics-artifact.ts'
import { createCalibrationPass } from '../calibration/calibration-pass.ts'
import type { ChosenLinear } from '../selection/choose-mask.ts'
import { withShares } from '../selection/allocate-ratios.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { discardPartials, openPartial } from '../statistics/partial-artifact.ts'
import { checkPatterns, expandPatterns } from '../selection/mask-patterns.ts'
import { sampleSequences } from '../calibration/token-sequences.ts'
import { selectToFile } from '../selection/select-to-file.ts'
import { keepCounted, openStatisticsFolder } from '../statistics/statistics-folder.ts'
import {
  coverParts,
  discardArtifact,
  mergeArtifacts,
  pruneArtifacts,
  touchArtifacts,
} from '../statistics/artifact-folder.ts'
import { readDataset } from '../calibration/dataset-text.ts'

/** A dataset file on this machine, newline-delimited `{"text": …}`, named by its hash. */
export interface DatasetFile {
  path: string
  sha256: string
  domain: string
}

/** What to calibrate and select; plain data. */
export interface CalibrationTask {
  /** Calibrated now unless their statistics are on disk. */
  datasets: readonly DatasetFile[]
  /** Their statistics count too; calibrated as well if they are not on disk. */
  accumulated: readonly DatasetFile[]
  samples: number
  length: number
  seed: number
  selection: SelectionSpec
  /** Mask file that the new mask succeeds. */
  parentMaskPath: string | null
  /** ISO 8601, into the mask's metadata: the same task must bring the same time to give the same bytes. */
  created: string
  /** Where the mask file is put. */
  workDir: string
  /** Where statistics are kept, those of each model in a folder of their own. */
  statisticsDir: string
}

/** What came of it: the figures of the wire result and where the mask lies. */
export type CalibrationOutcome = Omit<CalibrateResult, 'kind'> & { maskPath: string }

/** How far it is. */
export interface CalibrationProgress {
  /** 0 to 1. */
  fraction: number
  /** For people: `calibrating legal, block 12 of 30`. */
  message: string
}

/** Artifacts of one domain that stay apart; more are merged into one. */
const MERGE_ABOVE = 2
/** Artifacts kept although no longer counted: an update that failed may be tried again. */
const SPARE_ARTIFACTS = 2
/** Shares of the whole run that selection is taken to be: of scores alone, and where there is more to compute. */
const SELECTION_SHARE = 0.1
const REFINEMENT_SHARE = 0.5

/**
 * Calibrates what is missing, selects from the sum, and writes the mask file or weights file. The same task gives
 * the same bytes, whatever statistics were on disk before and however often it was killed on the way.
 *
 * @throws AppError `insufficient_samples`, `invalid_request`, `mask_invalid` (the parent), `unsupported_model`
 * (weights or activations are not finite)
 */
export async function calibrateAndSelect(
  model: DenseModel,
  given: CalibrationTask,
  threads: number,
  onProgress: (progress: CalibrationProgress) => void,
): Promise<CalibrationOutcome> {
  const task = { ...given, statisticsDir: await openStatisticsFolder(given.statisticsDir, model) }
  const { config } = model
  const patterns = expandPatterns(config, task.selection.patterns ?? {})
  const selection = withShares(model, { ...task.selection, patterns })
  checkPatterns(config, selection)
  const wanted = new Map<string, DatasetFile>()
  for (const dataset of countedDatasets(task)) wanted.set(partOf(model, task, dataset), dataset)
  const needsStatistics = parseMethod(task.selection.method).datasets !== 'none'
  if (needsStatistics && wanted.size === 0) {
    throw new AppError('insufficient_samples', 'There is nothing to calibrate on: name at least one dataset.')
  }
  const { parentMaskPath } = task
  const about = {
    domains: [...new Set([...wanted.values()].map(({ domain }) => domain))].sort(),
    parent: parentMaskPath === null ? null : await hashMaskFile(parentMaskPath),
    created: task.created,
  }
  for (let repairs = 0; ; repairs++) {
    try {
      const calibrateStart = performance.now()
      const artifacts = needsStatistics ? await gatherArtifacts(model, task, wanted, threads, onProgress) : []
      const selectStart = performance.now()
      const share = selectionShare(task)
      const { path, sha256, bytes, scope, sparsity, swaps, reconstruction } = await selectToFile({
        model,
        artifacts,
        selection,
        about,
        dir: task.workDir,
        threads,
        onBlock: (done, chosen) =>
          onProgress({
            fraction: 1 - share + (share * done) / config.layers,
            message: describeSelection(done, config.layers, chosen),
          }),
      })
      const selectMs = performance.now() - selectStart
      const counted = [...task.datasets, ...task.accumulated].map((dataset) => ({
        id: partOf(model, task, dataset),
        domain: dataset.domain,
      }))
      await keepCounted(task.statisticsDir, counted)
      await tidyStatistics(model, task, artifacts)
      return {
        maskPath: path,
        maskSha256: sha256,
        maskBytes: bytes,
        scope,
        sparsity,
        churn: parentMaskPath === null ? null : maskFileChurn(parentMaskPath, path),
        tokens: artifacts
          .flatMap(({ parts }) => parts)
          .map(({ datasetSha256, tokens }) => ({ sha256: datasetSha256, tokens })),
        calibrateMs: selectStart - calibrateStart,
        selectMs,
        ...(swaps ? { swaps } : {}),
        ...(reconstruction ? { reconstruction } : {}),
      }
    } catch (error) {
      // Statistics can be made again from their dataset; only a disk that damages everything ends this.
      if (!(error instanceof DamagedArtifactError) || repairs > wanted.size) throw error
      await discardArtifact(task.statisticsDir, error.artifactId)
    }
  }
}

/** The datasets whose statistics the method reads. */
function countedDatasets({ selection, datasets, accumulated }: CalibrationTask): readonly DatasetFile[] {
  switch (parseMethod(selection.method).datasets) {
    case 'none':
      return []
    case 'newest':
      return datasets
    case 'accumulated':
      return [...datasets, ...accumulated]
  }
}

/** Finds or makes the artifacts that add up to the wanted parts. */
async function gatherArtifacts(
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
  // All texts are looked at before the first is calibrated: too little text is said at once.
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

function selectionShare({ selection }: CalibrationTask): number {
  const { rule, swaps, reconstruct } = parseMethod(selection.method)
  return swaps || reconstruct || rule.changesWeights ? REFINEMENT_SHARE : SELECTION_SHARE
}

/** The last refinement tells: what it left, and of what. */
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
  const doing = reconstructed.length > 0 ? 'reconstructing' : 'swapping'
  return `${doing} weights, ${where}: ${(100 * left).toFixed(0)} % of its output error left`
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
 * Bounds the disk. Datasets that were already accumulated before this task always count together from now
 * on, so they are merged by domain; this task's own stay apart, because their mask may yet be rolled back.
 */
async function tidyStatistics(
  model: DenseModel,
  task: CalibrationTask,
  artifacts: readonly Artifact[],
): Promise<void> {
  const settled = new Set(task.accumulated.map((dataset) => partOf(model, task, dataset)))
  for (const { sha256: hash } of task.datasets) {
    settled.delete(partOf(model, task, { sha256: hash }))
  }
  const keep = new Set(artifacts.map(({ id }) => id))
  // What this method does not read, a later update may.
  const known = [...task.datasets, ...task.accumulated].map((dataset) => partOf(model, task, dataset))
  const onDisk = await listArtifacts(task.statisticsDir, model.master.baseSha256)
  for (const { id } of coverParts(onDisk, known).chosen) keep.add(id)
  const byDomain = Map.groupBy(
    artifacts.filter(({ parts }) => parts.every(({ id }) => settled.has(id))),
    ({ parts }) => parts[0]?.domain,
  )
  for (const mergeable of byDomain.values()) {
    if (mergeable.length > MERGE_ABOVE) keep.add((await mergeArtifacts(task.statisticsDir, mergeable)).id)
  }
  await pruneArtifacts(task.statisticsDir, model.master.baseSha256, keep, SPARE_ARTIFACTS)
  await discardPartials(task.statisticsDir)
}

function partOf(
  model: DenseModel,
  task: CalibrationTask,
  { sha256: datasetSha256 }: { sha256: string },
): string {
  const { samples, length, seed } = task
  return partId({ baseSha256: model.master.baseSha256, datasetSha256, samples, length, seed })
}

/** @throws AppError `mask_invalid` when it is none */
async function hashMaskFile(path: string): Promise<string> {
  openMaskFile(path).close()
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
