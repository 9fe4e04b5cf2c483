import { DamagedArtifactError, listArtifacts } from '../copal/artifact.ts'
import { selectToFile, type SelectedFile } from '../copal/select-to-file.ts'
import { coverParts } from '../copal/statistics.ts'
import type { DenseModel } from '../model/dense-model.ts'
import type { SelectedMask, SelectWork } from './child-protocol.ts'
import type { LayerError } from './results.ts'

/**
 * Selects one mask from statistics on disk.
 *
 * @throws DamagedArtifactError also when one is missing: it is calibrated again
 */
export async function selectMaskFile(
  model: DenseModel,
  work: SelectWork,
  threads: number,
  onProgress: (fraction: number, message: string) => void,
): Promise<SelectedMask> {
  const { selection, domains, created, masksDir } = work
  const { layers } = model.config
  const startedMs = performance.now()
  const { chosen, missing } = coverParts(
    await listArtifacts(work.statisticsDir, model.master.baseSha256),
    work.parts,
  )
  if (missing[0] !== undefined) throw new DamagedArtifactError({ id: missing[0] }, 'they are not there')
  const file = await selectToFile(
    model,
    chosen,
    selection,
    { domains, parent: null, created },
    masksDir,
    threads,
    (done) =>
      onProgress(done / layers, `${selection.method} ${selection.pattern}, block ${done} of ${layers}`),
  )
  return {
    sha256: file.sha256,
    bytes: file.bytes,
    sparsity: file.sparsity,
    seconds: (performance.now() - startedMs) / 1000,
    layerErrors: layerErrorsOf(file),
  }
}

/** Output errors around the last refinement, by linear; null where there is none. */
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
