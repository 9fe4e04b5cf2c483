import type { Deps } from '../../contracts/bindings.ts'
import type { DenseDescription, TextToDescribe } from '../../contracts/reservoir-object.ts'
import { describeTexts, TEXTS_PER_CALL } from '../../fleet/client/describe-texts.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'

/** The dependencies of a call that has stored texts described. */
export type DescribeDeps = Pick<Deps, 'reservoir' | 'fleet' | 'nodeSecrets' | 'nodeFetch' | 'nowMs'>

/** The texts to describe, and their purpose. */
export interface DescribeOptions {
  domain: string
  /** The weights of all models; descriptions under others are forgotten. */
  bases: readonly string[]
  /** Whether held-out texts are no examples of the domain. */
  isPoolOnly?: boolean
  /** When to stop, Unix milliseconds. */
  untilMs?: number
}

/**
 * Has a node describe texts of a reservoir, and stores the descriptions.
 *
 * @returns the number of texts that were described, which is smaller only if the time was up
 * @throws AppError `no_node_available`, or another error of the call
 */
export async function describeAndStore(
  deps: DescribeDeps,
  { id, baseSha256 }: Pick<ModelRow, 'id' | 'baseSha256'>,
  texts: readonly TextToDescribe[],
  { domain, bases, isPoolOnly = false, untilMs }: DescribeOptions,
): Promise<number> {
  for (let from = 0; from < texts.length; from += TEXTS_PER_CALL) {
    const leftMs = untilMs === undefined ? undefined : untilMs - deps.nowMs()
    if (leftMs !== undefined && leftMs <= 0) return from
    const part = texts.slice(from, from + TEXTS_PER_CALL)
    const results = await describeTexts(
      deps,
      id,
      part.map(({ text }) => text),
      leftMs,
    )
    const rows = results.map((result, index): { hash: string } & DenseDescription => ({
      hash: part[index]?.hash ?? '',
      baseSha256,
      ...result,
    }))
    await deps.reservoir(domain).storeDescriptions(rows, bases, isPoolOnly)
  }
  return texts.length
}
