import {
  DamagedArtifactError,
  listArtifacts,
  type Artifact,
} from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import { withAllocation } from '@copal/gpu-node/pruning/selection/allocate-ratios.ts'
import { parseMethod } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import { calibratePruned } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'
import { selectToFile, type SelectedFile } from '@copal/gpu-node/pruning/selection/select-to-file.ts'
import { coverParts } from '@copal/gpu-node/pruning/statistics/artifact-folder.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import type { SelectedMask, SelectPrunedWork, SelectWork } from './lab-child-protocol.ts'
import type { LayerError } from '../results/lab-results.ts'

type OnProgress = (fraction: number, message: string) => void

/** Assumed share of calibration in the time of a mask that needs its own; used for progress only. */
const CALIBRATION_SHARE = 0.7

/**
 * Selects one mask from statistics on disk.
 *
 * @throws DamagedArtifactError if statistics are damaged or missing; the caller calibrates again
 */
export async function selectMaskFile(
  model: DenseModel,
  work: SelectWork,
  threads: number,
  onProgress: OnProgress,
): Promise<SelectedMask> {
  const startedMs = performance.now()
  const onDisk = await listArtifacts(work.statisticsDir, model.master.baseSha256)
  const { chosen, missing } = coverParts(onDisk, work.parts)
  if (missing[0] !== undefined) throw new DamagedArtifactError({ id: missing[0] }, 'they are missing')
  return select({ model, artifacts: chosen, work, threads, startedMs, onProgress })
}

/**
 * Calibrates domains one after another with pruned propagation, reusing statistics on disk, and selects the mask after
 * the last.
 *
 * @throws DamagedArtifactError
 */
export async function selectPrunedMaskFile(
  model: DenseModel,
  work: SelectPrunedWork,
  threads: number,
  onProgress: OnProgress,
): Promise<{ mask: SelectedMask; calibrated: number }> {
  const startedMs = performance.now()
  const { stages, statisticsDir } = work
  const selection = withAllocation(model, work.selection)
  const { layers } = model.config
  const calibrated = new Set<number>()
  const artifacts = await calibratePruned(model, stages, {
    selection,
    statisticsDir,
    threads,
    onBlock: (stage, done) => {
      calibrated.add(stage)
      onProgress(
        (CALIBRATION_SHARE * (stage + done / layers)) / stages.length,
        `${selection.method} ${selection.pattern}, calibrating ${stages[stage]?.domain}, block ${done} of ${layers}`,
      )
    },
  })
  const counted = parseMethod(selection.method).datasets === 'newest' ? artifacts.slice(-1) : artifacts
  const domains = stages.map(({ domain }) => domain)
  const mask = await select({
    model,
    artifacts: counted,
    work: { ...work, domains },
    threads,
    startedMs,
    onProgress: (fraction, message) =>
      onProgress(CALIBRATION_SHARE + (1 - CALIBRATION_SHARE) * fraction, message),
  })
  return { mask, calibrated: calibrated.size }
}

async function select(task: {
  model: DenseModel
  artifacts: readonly Artifact[]
  work: Omit<SelectWork, 'parts'>
  threads: number
  startedMs: number
  onProgress: OnProgress
}): Promise<SelectedMask> {
  const { model, artifacts, work, threads, startedMs, onProgress } = task
  const { selection, domains, created, masksDir } = work
  const { layers } = model.config
  const { method, pattern } = selection
  const metadata = { domains, parent: null, created }
  const file = await selectToFile({
    model,
    artifacts,
    selection,
    metadata,
    dir: masksDir,
    threads,
    onBlock: (done) => onProgress(done / layers, `${method} ${pattern}, block ${done} of ${layers}`),
  })
  return {
    sha256: file.sha256,
    bytes: file.bytes,
    sparsity: file.sparsity,
    seconds: (performance.now() - startedMs) / 1000,
    layerErrors: layerErrorsOf(file),
  }
}

/** Output errors before and after the last refinement, by linear; null if there was no refinement. */
function layerErrorsOf({ swaps, reconstruction }: SelectedFile): Record<string, LayerError> | null {
  if (!reconstruction) return swaps
  if (!swaps) return reconstruction
  return Object.fromEntries(
    Object.entries(reconstruction).map(([name, { before, after }]) => {
      const score = swaps[name]?.before
      return [name, { ...(score === undefined ? {} : { score }), before, after }]
    }),
  )
}
