import type { Deps } from '../../contracts/bindings.ts'
import type { DenseDescription } from '../../contracts/reservoir-object.ts'
import { describeTexts, TEXTS_PER_CALL } from '../../fleet/client/describe-texts.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'

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
  deps: Pick<Deps, 'reservoir' | 'fleet' | 'nodeSecrets' | 'nodeFetch' | 'nowMs'>,
  { id, baseSha256 }: Pick<ModelRow, 'id' | 'baseSha256'>,
  { domain, want, heldOut = false }: DescribeRequest,
  budget: DescribeBudget,
  bases: readonly string[],
): Promise<number> {
  const reservoir = deps.reservoir(domain)
  const request = { baseSha256, want, limit: Math.max(0, budget.texts), heldOut }
  const { described, texts } = await reservoir.textsToDescribe(request)
  for (let from = 0; from < texts.length; from += TEXTS_PER_CALL) {
    const part = texts.slice(from, from + TEXTS_PER_CALL)
    budget.texts -= part.length
    const results = await describeTexts(
      deps,
      id,
      part.map(({ text }) => text),
    )
    const rows = results.map((result, index): { hash: string } & DenseDescription => ({
      hash: part[index]?.hash ?? '',
      baseSha256,
      ...result,
    }))
    await reservoir.storeDescriptions(rows, bases)
  }
  return described + texts.length
}
