import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { DEFAULT_MODEL } from '../../../gpu-node/src/model/source/resolve-model.ts'

/** The folder of cached models and packages: `COPAL_CACHE`, or that of the user. */
export const CACHE_DIR = resolve(process.env['COPAL_CACHE'] || join(homedir(), '.cache', 'copal'))

/** Opens the default model, which `npm test` fetches before the tests. */
export function openDefaultModel(): Promise<DenseModel> {
  return openModel(DEFAULT_MODEL, { cacheDir: CACHE_DIR })
}
