import { AppError } from '@copal/shared/errors.ts'
import { weightOf, type DomainWeights } from '@copal/shared/wire/selection.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import { accumulateStatistic } from '../statistics/artifact-folder.ts'
import type { Artifact } from '../statistics/statistics-artifact.ts'

/** The statistics from which a mask is selected: the sum over all artifacts. */
export interface SummedStatistics {
  /** Divides a sum to give a mean over tokens: the number of tokens, or the sum of the weights of domains. */
  tokens: number
  /** Returns the sum of one tensor of one block, in new memory. @throws DamagedArtifactError */
  accumulate(block: number, name: string): Promise<Float64Array<ArrayBuffer>>
}

/** How artifacts are added. */
interface Summation {
  /** If given, see {@link sumStatistics}. Domains that are not named have the weight 1. */
  weights?: DomainWeights | undefined
  /** Factors for the statistics and tokens of artifacts, by id; an artifact that is not named has the factor 1. */
  factors?: ReadonlyMap<string, number> | undefined
}

/** The artifacts of one domain and what their sum is multiplied by. */
interface Group {
  artifacts: readonly Artifact[]
  tokens: number
  scale: number
}

/**
 * Adds artifacts: `Σ S` without weights, as in the paper, else `Σ_d w_d · S_d / n_d`, with `S_d` the sum and `n_d` the tokens
 * of domain d, so that a domain counts by its weight and not by the number of its tokens or updates.
 *
 * The sum of a domain is complete before it is multiplied, and domains are added in the order of their names. So the result
 * depends neither on the order of artifacts nor on how a domain's parts are merged. One or two tensors are in memory.
 *
 * @throws AppError `invalid_request` when every domain has the weight 0
 */
export function sumStatistics(
  unordered: readonly Artifact[],
  { weights, factors }: Summation,
): SummedStatistics {
  // By dataset, because the id of a part also depends on which statistics it has.
  const artifacts = unordered.toSorted((a, b) => (firstDataset(a) < firstDataset(b) ? -1 : 1))
  const factorOf = factors && (({ id }: Artifact) => factors.get(id) ?? 1)
  const tokensOf = (some: readonly Artifact[]) =>
    some.reduce((sum, { id, parts }) => {
      const tokens = parts.reduce((total, part) => total + part.tokens, 0)
      return sum + (factors?.get(id) ?? 1) * tokens
    }, 0)
  if (!weights) {
    return {
      tokens: tokensOf(artifacts),
      accumulate: (block, name) => accumulateStatistic(artifacts, block, name, factorOf),
    }
  }
  const groups = [...Map.groupBy(artifacts, domainOf)]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([domain, own]): Group & { weight: number } => {
      const tokens = tokensOf(own)
      const weight = weightOf(weights, domain)
      return { artifacts: own, tokens, weight, scale: weight / tokens }
    })
    .filter(({ weight, tokens }) => weight > 0 && tokens > 0)
  if (groups.length === 0 && artifacts.length > 0) {
    throw new AppError(
      'invalid_request',
      'Every domain that was calibrated has the weight 0. Give at least one a weight above 0.',
      { param: 'weights' },
    )
  }
  return {
    tokens: groups.reduce((sum, { weight }) => sum + weight, 0),
    async accumulate(block, name) {
      let total: Float64Array<ArrayBuffer> | undefined
      for (const { artifacts: own, scale } of groups) {
        const sum = await accumulateStatistic(own, block, name, factorOf)
        for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) * scale
        if (!total) {
          total = sum
          continue
        }
        for (let i = 0; i < sum.length; i++) total[i] = (total[i] as number) + (sum[i] as number)
        freeMemory(sum)
      }
      if (!total) throw new RangeError('nothing to accumulate')
      return total
    },
  }
}

function firstDataset({ parts }: Artifact): string {
  return parts.map(({ datasetSha256 }) => datasetSha256).toSorted()[0] ?? ''
}

/** Returns the domain of an artifact; domains are never merged with each other. */
function domainOf({ parts }: Artifact): string {
  return parts[0]?.domain ?? ''
}
