import type { CalibrateResult } from '@copal/shared/wire/adaptation-jobs.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { parseMethod } from '../methods/method-registry.ts'
import type { StatisticSet } from '../statistics/statistic-names.ts'
import { coverDatasets, type Cover } from '../statistics/artifact-folder.ts'
import { partId, statisticsOf, type Artifact, type Draw } from '../statistics/statistics-artifact.ts'

/** How updates draw sequences: texts of a domain come and go. */
export const UPDATE_DRAW: Draw = 'stable'

/** A dataset file on this machine, newline-delimited `{"text": …}`, named by its hash. */
export interface DatasetFile {
  /** Null if the text is not on this machine, because it has expired or its statistics were on disk. */
  path: string | null
  sha256: string
  domain: string
  /** When its texts were frozen, Unix milliseconds; as of the newest one by default. */
  createdAt?: number | undefined
  /** True: there is no text any more, so that it counts by statistics that exist. */
  expired?: boolean | undefined
}

/** The input of a calibration: plain data, so that it can be sent to another process. */
export interface CalibrationTask {
  /** The newest datasets. They are calibrated unless their statistics are on disk. */
  datasets: readonly DatasetFile[]
  /** Earlier datasets whose statistics count too. They are calibrated as well if their statistics are not on disk. */
  accumulated: readonly DatasetFile[]
  /** Sequences per dataset. */
  samples: number
  /** Tokens per sequence. */
  length: number
  /** Seed of the draw of sequences. */
  seed: number
  selection: SelectionSpec
  /** If given, a dataset counts half after this many days. */
  halfLifeDays?: number | undefined
  /** The mask file before the new one, for the churn; null if there is none. */
  parentMaskPath: string | null
  /** A mask file to compare the new one with; none by default. */
  compareMaskPath?: string | undefined
  /** ISO 8601 time for the mask's metadata. It is part of the task so that the same task gives the same bytes. */
  created: string
  /** Folder for the mask file. */
  workDir: string
  /** Folder for statistics; each model has a folder in it. */
  statisticsDir: string
}

/** The result of a calibration: the fields of the wire result, and the path of the mask. */
export type CalibrationOutcome = Omit<CalibrateResult, 'kind' | 'statistics'> & {
  maskPath: string
  /** The statistics of all datasets of the task that are on disk. */
  artifacts: Artifact[]
}

/** The progress of a calibration. */
export interface CalibrationProgress {
  /** 0 to 1. */
  fraction: number
  /** A message for people, such as `calibrating legal, block 12 of 30`. */
  message: string
}

/** Returns the datasets whose statistics the method reads. */
export function countedDatasets<Dataset>({
  selection,
  datasets,
  accumulated,
}: Pick<CalibrationTask, 'selection'> & {
  datasets: readonly Dataset[]
  accumulated: readonly Dataset[]
}): readonly Dataset[] {
  switch (parseMethod(selection.method).datasets) {
    case 'none':
      return []
    case 'newest':
      return datasets
    case 'accumulated':
      return [...datasets, ...accumulated]
  }
}

/** Returns the statistics that the method of a task reads. */
export function neededStatistics({ selection }: { selection: Pick<SelectionSpec, 'method'> }): StatisticSet {
  return parseMethod(selection.method).needs.includes('sensitivity') ? 'all' : 'moments'
}

/** Returns the id of the statistics of one dataset. */
export function datasetPartId(
  { master }: Pick<DenseModel, 'master'>,
  { samples, length, seed }: Pick<CalibrationTask, 'samples' | 'length' | 'seed'>,
  { sha256: datasetSha256 }: { sha256: string },
  statistics: StatisticSet,
): string {
  const { baseSha256 } = master
  return partId({ baseSha256, datasetSha256, samples, length, seed, draw: UPDATE_DRAW, statistics })
}

/** Returns the dataset of each part whose statistics suffice for `needed`, by the id of the part. */
export function wantedParts(
  model: Pick<DenseModel, 'master'>,
  task: Pick<CalibrationTask, 'samples' | 'length' | 'seed'>,
  datasets: readonly { sha256: string }[],
  needed: StatisticSet,
): Map<string, string> {
  const sets: readonly StatisticSet[] = needed === 'all' ? ['all'] : ['all', 'moments']
  return new Map(
    datasets.flatMap((dataset) =>
      sets.map((set) => [datasetPartId(model, task, dataset, set), dataset.sha256] as const),
    ),
  )
}

/**
 * Finds the artifacts that add up to some datasets. The text of an expired one cannot be sampled again, so where the statistics
 * of the task's own sampling are missing, those of another sampling count, with everything that they are summed with.
 */
export function coverWanted(
  model: Pick<DenseModel, 'master'>,
  task: Pick<CalibrationTask, 'samples' | 'length' | 'seed'>,
  artifacts: readonly Artifact[],
  datasets: readonly Pick<DatasetFile, 'sha256' | 'expired'>[],
  needed: StatisticSet,
): Cover {
  const wanted = wantedParts(model, task, datasets, needed)
  const cover = coverDatasets(artifacts, wanted)
  const gone = new Set(datasets.flatMap(({ sha256, expired }) => (expired ? sha256 : [])))
  if (!cover.missing.some((dataset) => gone.has(dataset))) return cover
  const known = new Set(datasets.map(({ sha256 }) => sha256))
  for (const artifact of artifacts) {
    const { parts } = artifact
    if (needed === 'all' && statisticsOf(artifact) !== 'all') continue
    if (!parts.every(({ datasetSha256 }) => known.has(datasetSha256))) continue
    if (!parts.some(({ datasetSha256 }) => gone.has(datasetSha256))) continue
    for (const { id, datasetSha256 } of parts) wanted.set(id, datasetSha256)
  }
  return coverDatasets(artifacts, wanted)
}

/** Fraction of the progress that selection by scores takes. */
const SCORE_SELECTION_SHARE = 0.1
/** Fraction of the progress that selection takes with refinements or updates of weights. */
const REFINEMENT_SHARE = 0.5

/** Returns the fraction of the progress that selection takes; calibration takes the rest. */
export function selectionShare({ selection }: CalibrationTask): number {
  const { rule, swaps, reconstruct } = parseMethod(selection.method)
  return swaps || reconstruct || rule.changesWeights ? REFINEMENT_SHARE : SCORE_SELECTION_SHARE
}
