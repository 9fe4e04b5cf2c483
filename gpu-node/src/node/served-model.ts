import type { DenseModel } from '../model/master/dense-model.ts'
import { openModel } from '../model/open-model.ts'
import type { Log } from '../platform/log.ts'
import type { OnModelProgress } from '../platform/progress.ts'
import type { ModelReference } from '../pruning/runs/pruning-child-protocol.ts'
import type { NodeSettings } from '../settings.ts'

/** The model that a node serves. */
export interface ServedModel {
  model: DenseModel
  /** By which child processes open it again. */
  reference: ModelReference
}

/** Parts that the process passes to a node that starts. */
export interface StartEnvironment {
  log: Log
  onProgress: OnModelProgress
  /** Cancels the start. */
  signal: AbortSignal
}

/**
 * Opens the model of the settings, and logs what its updates lack.
 *
 * @throws AppError as `openModel` does; the reason of `signal`
 */
export async function openServedModel(
  { model: spec, cacheDir }: Pick<NodeSettings, 'model' | 'cacheDir'>,
  { log, onProgress, signal }: StartEnvironment,
): Promise<ServedModel> {
  const model = await openModel(spec, { cacheDir, onProgress, signal })
  if (model.rowSensitivity === null) {
    log.info(
      'the row sensitivity of this model was never measured, so updates prune every row alike. ' +
        "'npx copal lab row-sensitivity' measures it once, in minutes",
      { model: model.id },
    )
  }
  const { id, master } = model
  return { model, reference: { spec, cacheDir, id, baseSha256: master.baseSha256 } }
}
