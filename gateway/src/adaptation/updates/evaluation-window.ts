import type { ModelRow } from '../../storage/db/queries/model-queries.ts'

/** Returns the window length, in tokens, for evaluations of a model. It must never change, so that results stay comparable. */
export function evaluationWindow(model: Pick<ModelRow, 'contextLength'>): number {
  return Math.max(16, Math.min(512, model.contextLength))
}
