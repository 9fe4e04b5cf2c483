import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { describeAndStore, type DescribeDeps } from '../sampling/describe-and-store.ts'

/** The texts that a run of the cron task may still have described. */
export interface DescribeBudget {
  texts: number
}

/** Which texts of a reservoir to describe. */
export interface DescribeRequest {
  domain: string
  /** Number of descriptions to have. */
  want: number
  heldOut?: boolean
}

/**
 * Has stored texts described that lack a description under the dense weights of a model.
 *
 * @param bases the weights of all models; descriptions under others are forgotten
 * @returns the number of texts that have one now
 * @throws AppError `no_node_available`, or another error of the call
 */
export async function describeStored(
  deps: DescribeDeps,
  { id, baseSha256 }: Pick<ModelRow, 'id' | 'baseSha256'>,
  { domain, want, heldOut = false }: DescribeRequest,
  budget: DescribeBudget,
  bases: readonly string[],
): Promise<number> {
  const request = { baseSha256, want, limit: Math.max(0, budget.texts), heldOut }
  const { described, texts } = await deps.reservoir(domain).textsToDescribe(request)
  budget.texts -= texts.length
  await describeAndStore(deps, { id, baseSha256 }, texts, { domain, bases })
  return described + texts.length
}
