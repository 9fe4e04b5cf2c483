import { listArtifacts, type Artifact } from '../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'
import { statisticsFolder } from '../../../gpu-node/src/pruning/statistics/statistics-folder.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { modelIdentity } from '../../../gpu-node/src/model/master/model-identity.ts'

/** Where a calibration keeps the statistics of a model, below its `statisticsDir`. */
export async function statisticsFolderOf(statisticsDir: string, model: DenseModel): Promise<string> {
  return statisticsFolder(statisticsDir, await modelIdentity(model))
}

/** The finished ones there. */
export async function keptStatistics(statisticsDir: string, model: DenseModel): Promise<Artifact[]> {
  return listArtifacts(await statisticsFolderOf(statisticsDir, model), model.master.baseSha256)
}
