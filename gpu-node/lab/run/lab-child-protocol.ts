import type { ErrorBody } from '@copal/shared/errors.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import type { ArtifactPart } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import type { ModelReference } from '@copal/gpu-node/pruning/runs/pruning-child-protocol.ts'
import type { PrunedStage } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'
import type { TokenSequences } from '@copal/gpu-node/pruning/calibration/token-sequences.ts'
import type { DomainSpec } from '../texts/domain-spec.ts'
import type { PreparedDomains, PrepareOptions } from '../texts/prepare-domains.ts'
import type { LayerError } from '../results/lab-results.ts'

/** Statistics of one domain. */
export interface CalibrateWork {
  statisticsDir: string
  part: ArtifactPart
  sequences: TokenSequences
}

/** One mask to be selected from statistics on disk. */
export interface SelectWork {
  statisticsDir: string
  /** Ids of the statistics that add up. */
  parts: string[]
  selection: SelectionSpec
  domains: string[]
  created: string
  /** Where the file is put, named by its hash. */
  masksDir: string
}

/** One mask to be selected while its domains are calibrated one after another, each block seeing pruned ones. */
export interface SelectPrunedWork extends Omit<SelectWork, 'parts' | 'domains'> {
  /** In the order in which the domains came. */
  stages: PrunedStage[]
}

export interface SelectedMask {
  sha256: string
  bytes: number
  sparsity: number
  seconds: number
  layerErrors: Record<string, LayerError> | null
}

/** What the child can be asked for, and what it answers. */
export interface LabCalls {
  prepare: { work: { specs: DomainSpec[]; options: PrepareOptions }; answer: PreparedDomains }
  /** Times one block on these sequences: seconds a token, without and with statistics. */
  measure: { work: { sequences: TokenSequences }; answer: { forward: number; calibrate: number } }
  calibrate: {
    work: CalibrateWork
    /** Of the blocks that this call did itself: the others were on disk. */
    answer: { seconds: number; blocks: number }
  }
  select: { work: SelectWork; answer: SelectedMask }
  selectPruned: {
    work: SelectPrunedWork
    /** `calibrated`: stages that were not on disk as a whole. */
    answer: { mask: SelectedMask; calibrated: number }
  }
  churn: { work: { path: string; otherPath: string }; answer: { churn: number } }
}
export type LabCall = keyof LabCalls

/** The first message. */
export interface LabStart {
  model: ModelReference
  threads: number
}

export type LabRequest = {
  [Name in LabCall]: { id: number; call: Name; work: LabCalls[Name]['work'] }
}[LabCall]

/** Progress of the call in work, and its end. */
export type LabMessage =
  | { id: number; type: 'progress'; fraction: number; message: string }
  | { id: number; type: 'answer'; answer: LabCalls[LabCall]['answer'] }
  | { id: number; type: 'damaged'; artifactId: string }
  | { id: number; type: 'failed'; error: ErrorBody }
