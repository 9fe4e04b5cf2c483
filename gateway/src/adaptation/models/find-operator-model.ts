import { AppError } from '@copal/shared/errors.ts'
import type { Database } from '../../contracts/database.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'

/**
 * Finds the model of an operator's request: the named one, or the only one.
 *
 * @throws AppError `model_not_found`, `invalid_request` when several could be meant, `no_node_available` when none is known
 */
export async function findOperatorModel(db: Database, id: string | undefined): Promise<ModelRow> {
  const models = await listModels(db)
  const [only, ...others] = models
  if (!only) {
    throw new AppError(
      'no_node_available',
      'No model is known, because no node has sent a heartbeat yet. Start a node and try again.',
      {
        retryAfterS: 5,
      },
    )
  }
  const names = models.map((model) => `'${model.id}'`).join(', ')
  if (id !== undefined) {
    const named = models.find((model) => model.id === id)
    if (named) return named
    throw new AppError('model_not_found', `The model '${id}' is unknown. Available models: ${names}.`, {
      param: 'model',
    })
  }
  if (others.length === 0) return only
  throw new AppError('invalid_request', `There are several models. Set 'model' to one of ${names}.`, {
    param: 'model',
  })
}
