import type { CalibrateResult } from '@copal/shared/wire/adaptation-jobs.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { partId } from '../statistics/statistics-artifact.ts'

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

/** The datasets whose statistics the method reads. */
export function countedDatasets({
  selection,
  datasets,
  accumulated,
}: CalibrationTask): readonly DatasetFile[] {
  switch (parseMethod(selection.method).datasets) {
    case 'none':
      return []
    case 'newest':
      return datasets
    case 'accumulated':
      return [...datasets, ...accumulated]
  }
}

/** Names the statistics of one dataset. */
export function datasetPartId(
  model: DenseModel,
  task: CalibrationTask,
  { sha256: datasetSha256 }: { sha256: string },
): string {
  const { samples, length, seed } = task
  return partId({ baseSha256: model.master.baseSha256, datasetSha256, samples, length, seed })
}

/** Shares of the whole run that selection is taken to be: of scores alone, and where there is more to compute. */
const SCORE_SELECTION_SHARE = 0.1
const REFINEMENT_SHARE = 0.5

/** The share of the whole run that selection is taken to be. */
export function selectionShare({ selection }: CalibrationTask): number {
  const { rule, swaps, reconstruct } = parseMethod(selection.method)
  return swaps || reconstruct || rule.changesWeights ? REFINEMENT_SHARE : SCORE_SELECTION_SHARE
}
