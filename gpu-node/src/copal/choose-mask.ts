import { AppError } from '@copal/shared/errors.ts'
import type { Mask, MaskLinear, MaskMeta } from '@copal/shared/mask/codec.ts'
import { keptCounts, parsePattern } from '@copal/shared/mask/pattern.ts'
import type { SelectionSpec } from '@copal/shared/wire/node-rpc.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../model/config.ts'
import type { DenseMaster } from '../model/dense-model.ts'
import { loadTensor } from '../model/master.ts'
import type { Artifact } from './artifact.ts'
import { statisticTensor, type StatisticName } from './block-statistics.ts'
import { METHODS } from './methods.ts'
import { accumulate } from './statistics.ts'

/**
 * Checks, before there is work, that the columns of every linear divide into the groups of an n:m pattern.
 *
 * @throws AppError `invalid_request` that names the linear
 */
export function checkPattern(config: LlamaConfig, { pattern, scope }: SelectionSpec): void {
  for (const linear of BLOCK_LINEARS) {
    try {
      keptCounts(parsePattern(pattern), scope, ...linearShape(config, linear))
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      throw new AppError(error.code, `Linear '${linear}': ${error.message}`, {
        param: 'pattern',
        cause: error,
      })
    }
  }
}

/**
 * Chooses a mask for every linear of the model from accumulated statistics and the dense weights, one linear
 * in memory at a time.
 *
 * @param onBlock called with the number of blocks done
 * @throws DamagedArtifactError
 */
export async function chooseMask(
  model: { config: LlamaConfig; master: DenseMaster },
  artifacts: readonly Artifact[],
  selection: SelectionSpec,
  about: Pick<MaskMeta, 'domains' | 'parent' | 'created'>,
  onBlock: (done: number) => void,
): Promise<Mask> {
  const { config, master } = model
  const method = METHODS[selection.method]
  const pattern = parsePattern(selection.pattern)
  const linears = new Map<string, MaskLinear>()
  for (let layer = 0; layer < config.layers; layer++) {
    for (const linear of BLOCK_LINEARS) {
      const [rows, cols] = linearShape(config, linear)
      const statistics = new Map<StatisticName, Float64Array>()
      for (const name of method.needs) {
        statistics.set(name, await accumulate(artifacts, layer, statisticTensor(name, linear)))
      }
      const statistic = (name: StatisticName): Float64Array => {
        const values = statistics.get(name)
        if (!values) throw new RangeError(`method ${selection.method} did not declare that it needs ${name}`)
        return values
      }
      const weights = await loadTensor(master, linearName(layer, linear))
      const bits = method.select({ rows, cols, weights, statistic }, pattern, selection.scope)
      linears.set(linearName(layer, linear), { rows, cols, bits })
    }
    onBlock(layer + 1)
  }
  const { method: name, pattern: text, scope } = selection
  return { meta: { ...about, method: name, pattern: text, scope, baseSha256: master.baseSha256 }, linears }
}
