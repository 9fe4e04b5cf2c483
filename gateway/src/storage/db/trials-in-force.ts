import type { StoredTrial, TrialKind } from '../../contracts/trial.ts'

/**
 * Returns the trials that are in force. A trial compares a mask with the one that was active when it began. So it ends when
 * another mask becomes active, by promotion or roll-back, including the mask under test.
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

/** Returns the trial of an operator that is in force, beside which no update can run its own; undefined if there is none. */
export function operatorTrial(
  model: Parameters<typeof trialsInForce>[0],
): { kind: TrialKind; trial: StoredTrial } | undefined {
  const { canary, shadow } = trialsInForce(model)
  if (canary && canary.updateId === undefined) return { kind: 'canary', trial: canary }
  return shadow && shadow.updateId === undefined ? { kind: 'shadow', trial: shadow } : undefined
}
