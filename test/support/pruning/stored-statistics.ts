import { listArtifacts, type Artifact } from '../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'
import { statisticsFolder } from '../../../gpu-node/src/pruning/statistics/statistics-folder.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { modelIdentity } from '../../../gpu-node/src/model/master/model-identity.ts'

/** Returns the folder below `statisticsDir` in which a calibration stores the statistics of a model. */
export async function statisticsFolderOf(statisticsDir: string, model: DenseModel): Promise<string> {
  return statisticsFolder(statisticsDir, await modelIdentity(model))
}

/** Returns the finished statistics of a model. */
export async function storedStatistics(statisticsDir: string, model: DenseModel): Promise<Artifact[]> {
  return listArtifacts(await statisticsFolderOf(statisticsDir, model), model.master.baseSha256)
}
