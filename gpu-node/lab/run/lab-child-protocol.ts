import type { ErrorBody } from '@copal/shared/errors.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import type { ArtifactPart } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import type { ModelReference } from '@copal/gpu-node/pruning/runs/pruning-child-protocol.ts'
import type { PrunedStage } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'
import type { TokenSequences } from '@copal/gpu-node/pruning/calibration/token-sequences.ts'
import type { DomainSpec } from '../texts/domain-spec.ts'
import type { PreparedDomains, PrepareOptions } from '../texts/prepare-domains.ts'
import type { LayerError } from '../results/lab-results.ts'

/** The work of calibrating one domain. */
export interface CalibrateWork {
  statisticsDir: string
  part: ArtifactPart
  sequences: TokenSequences
}

/** The work of selecting one mask from statistics on disk. */
export interface SelectWork {
  statisticsDir: string
  /** Ids of the statistics to add up. */
  parts: string[]
  selection: SelectionSpec
  domains: string[]
  created: string
  /** Folder for the mask file, which is named by its hash. */
  masksDir: string
}

/** The work of selecting one mask with pruned propagation: each block is calibrated behind already pruned blocks. */
export interface SelectPrunedWork extends Omit<SelectWork, 'parts' | 'domains'> {
  /** In the order of the domains. */
  stages: PrunedStage[]
}

/** A selected mask, and what its selection took. */
export interface SelectedMask {
  sha256: string
  bytes: number
  sparsity: number
  seconds: number
  layerErrors: Record<string, LayerError> | null
}

/** The calls that the child process serves, each with its work and its result. */
export interface LabCalls {
  prepare: { work: { specs: DomainSpec[]; options: PrepareOptions }; result: PreparedDomains }
  /** Times one block on these sequences: seconds per token, without and with statistics. */
  measure: { work: { sequences: TokenSequences }; result: { forward: number; calibrate: number } }
  calibrate: {
    work: CalibrateWork
    /** Counts only blocks that this call calibrated; the others were already on disk. */
    result: { seconds: number; blocks: number }
  }
  select: { work: SelectWork; result: SelectedMask }
  selectPruned: {
    work: SelectPrunedWork
    /** `calibrated`: number of stages whose statistics were not already complete on disk. */
    result: { mask: SelectedMask; calibrated: number }
  }
  churn: { work: { path: string; otherPath: string }; result: { churn: number } }
}
/** The name of a call. */
export type LabCall = keyof LabCalls

/** The first message to the child. */
export interface LabStart {
  model: ModelReference
  threads: number
}

/** A call as a message to the child. */
export type LabRequest = {
  [Name in LabCall]: { id: number; call: Name; work: LabCalls[Name]['work'] }
}[LabCall]

/** A message from the child: progress of a call, or its outcome. */
export type LabMessage =
  | { id: number; type: 'progress'; fraction: number; message: string }
  | { id: number; type: 'result'; result: LabCalls[LabCall]['result'] }
  | { id: number; type: 'damaged'; artifactId: string }
  | { id: number; type: 'failed'; error: ErrorBody }
