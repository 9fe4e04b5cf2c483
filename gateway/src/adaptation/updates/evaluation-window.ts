import type { ModelRow } from '../../storage/db/queries/model-queries.ts'

/** Tokens of a window on which masks of a model are evaluated: the same ever after, so that figures can be compared. */
export function evaluationWindow(model: Pick<ModelRow, 'contextLength'>): number {
  return Math.max(16, Math.min(512, model.contextLength))
}
