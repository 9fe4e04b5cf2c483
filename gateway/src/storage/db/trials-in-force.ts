import type { StoredTrial, TrialKind } from '../../contracts/trial.ts'

/**
 * The trials that are in force. Each compares with the mask that was active when it began, so it is over when another
 * becomes active: promoted, rolled back to, or the tried one itself.
 */
export function trialsInForce(model: {
  activeVersion: number
  canary: StoredTrial | null
  shadow: StoredTrial | null
}): Partial<Record<TrialKind, StoredTrial>> {
  const inForce = (trial: StoredTrial | null) => trial?.beside === model.activeVersion
  return {
    ...(model.canary && inForce(model.canary) ? { canary: model.canary } : {}),
    ...(model.shadow && inForce(model.shadow) ? { shadow: model.shadow } : {}),
  }
}
