import { AppError } from '@copal/shared/errors.ts'
import type { Mask, MaskLinear, MaskMeta } from '@copal/shared/mask/codec.ts'
import { keptCounts, parsePattern } from '@copal/shared/mask/pattern.ts'
import type { SelectionSpec } from '@copal/shared/wire/node-rpc.ts'
import {
  BLOCK_LINEARS,
  linearName,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../model/config.ts'
import type { DenseMaster } from '../model/dense-model.ts'
import { loadTensor } from '../model/master.ts'
import type { Artifact } from './artifact.ts'
import { statisticTensor, type StatisticName } from './block-statistics.ts'
import { requireFiniteWeights } from './finite.ts'
import type { ScoredLinear } from './importance.ts'
import { methodOf, type Method } from './methods.ts'
import { accumulate } from './statistics.ts'
import { createSwapPool, type SwapGain } from './swap-pool.ts'

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

/** A mask, and what its refinement won, by the name of the linear; null where the method has none. */
export interface ChosenMask {
  mask: Mask
  gains: ReadonlyMap<string, SwapGain> | null
}

/**
 * Chooses a mask for every linear of the model from accumulated statistics and the dense weights, one linear
 * in memory at a time. The number of threads does not change a bit.
 *
 * @param onBlock called with the number of blocks done and what refinement won in the last
 * @throws DamagedArtifactError
 * @throws AppError `unsupported_model` weights are not finite: names the linear
 */
export async function chooseMask(
  model: { config: LlamaConfig; master: DenseMaster },
  artifacts: readonly Artifact[],
  selection: SelectionSpec,
  about: Pick<MaskMeta, 'domains' | 'parent' | 'created'>,
  threads: number,
  onBlock: (done: number, gains: readonly SwapGain[]) => void,
): Promise<ChosenMask> {
  const { config, master } = model
  const method = methodOf(selection.method)
  const pattern = parsePattern(selection.pattern)
  const linears = new Map<string, MaskLinear>()
  const gains = new Map<string, SwapGain>()
  const pool = method.swaps ? createSwapPool(threads) : null
  try {
    for (let layer = 0; layer < config.layers; layer++) {
      const blockGains: SwapGain[] = []
      for (const linear of BLOCK_LINEARS) {
        const name = linearName(layer, linear)
        const scored = await loadScored(model, artifacts, layer, linear, method)
        const bits = method.select(scored, pattern, selection.scope)
        if (pool) {
          const { rows, cols, weights } = scored
          const moment = meanOverTokens(scored.statistic('second_moment'), artifacts)
          const group = pattern.kind === 'n:m' ? pattern.group : null
          const gain = await pool.refine({ rows, cols, group, weights, moment, bits })
          blockGains.push(gain)
          gains.set(name, gain)
        }
        linears.set(name, { rows: scored.rows, cols: scored.cols, bits })
      }
      onBlock(layer + 1, blockGains)
    }
  } finally {
    await pool?.close()
  }
  const { method: name, pattern: text, scope } = selection
  const meta = { ...about, method: name, pattern: text, scope, patterns: {}, baseSha256: master.baseSha256 }
  return { mask: { meta, linears }, gains: pool && gains }
}

async function loadScored(
  { config, master }: { config: LlamaConfig; master: DenseMaster },
  artifacts: readonly Artifact[],
  layer: number,
  linear: BlockLinear,
  { needs }: Method,
): Promise<ScoredLinear & { weights: Float32Array }> {
  const [rows, cols] = linearShape(config, linear)
  const statistics = new Map<StatisticName, Float64Array>()
  for (const name of needs) {
    statistics.set(name, await accumulate(artifacts, layer, statisticTensor(name, linear)))
  }
  const statistic = (name: StatisticName): Float64Array => {
    const values = statistics.get(name)
    if (!values) throw new RangeError(`the method did not declare that it needs ${name}`)
    return values
  }
  const tensor = linearName(layer, linear)
  const weights = await loadTensor(master, tensor)
  requireFiniteWeights(weights, tensor)
  return { rows, cols, weights, statistic }
}

/** Divides a sum over tokens by how many they are, in place. */
function meanOverTokens(sum: Float64Array, artifacts: readonly Artifact[]): Float64Array {
  let tokens = 0
  for (const { parts } of artifacts) for (const part of parts) tokens += part.tokens
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) / tokens
  return sum
}
