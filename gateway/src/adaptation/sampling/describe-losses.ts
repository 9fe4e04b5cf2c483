import { AppError } from '@copal/shared/errors.ts'
import type { LossRequest } from '../../contracts/reservoir-object.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { describeAndStore, type DescribeDeps } from './describe-and-store.ts'

/** How much is described at most. */
export interface LossBudget {
  texts: number
  /** Unix milliseconds. */
  untilMs: number
}

/**
 * Has the texts that an update would take of a domain, and those that it would hold out, described as far as the budget goes,
 * so that outliers among them are set aside. Where no node answers, they stay as they are.
 *
 * @param bases the weights of all models
 */
export async function describeLosses(
  deps: DescribeDeps,
  model: Pick<ModelRow, 'id' | 'baseSha256'>,
  domain: string,
  request: Omit<LossRequest, 'model' | 'baseSha256' | 'limit'>,
  { bases, budget }: { bases: readonly string[]; budget: LossBudget },
): Promise<void> {
  // Texts that are set aside are replaced by others, whose losses may be unknown too.
  while (budget.texts > 0) {
    const texts = await deps.reservoir(domain).textsWithoutLoss({
      ...request,
      model: model.id,
      baseSha256: model.baseSha256,
      limit: budget.texts,
    })
    if (texts.length === 0) return
    budget.texts -= texts.length
    try {
      const options = { domain, bases, isPoolOnly: true, untilMs: budget.untilMs }
      if ((await describeAndStore(deps, model, texts, options)) < texts.length) return
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      // The share of each key bounds what texts of unknown loss do. One node that fails may take long to: ask no more.
      budget.texts = 0
      console.warn(`Texts of domain '${domain}' were not described: ${error.message}`)
    }
  }
}
