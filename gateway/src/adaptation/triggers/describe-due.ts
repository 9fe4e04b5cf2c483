import { estimateTokens } from '../holdouts/holdout-rules.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { findPolicy } from '../policy/find-policy.ts'
import type { DescribeDeps } from '../sampling/describe-and-store.ts'
import { describeLosses } from '../sampling/describe-losses.ts'
import { drawOf } from '../updates/draw-of.ts'
import { demandOf } from '../updates/update-choices.ts'
import { SEGMENT_TOKENS } from './due-domain.ts'
import type { PlanDeps } from './gather-plan.ts'

/** Texts that a run has described at most for each model, and how long it does. */
const MAX_DESCRIBED = 192
const MAX_MS = 45_000
/** Part of the new text that makes a domain due, from which on its texts are described. */
const SOON = 1 / 2

/**
 * Has the texts of domains described that are due or will be soon, so that their outliers are set aside when an update takes
 * texts. A task of the cron trigger. What it leaves, the update has described.
 */
export async function describeDue(deps: PlanDeps & DescribeDeps): Promise<void> {
  const models = await listModels(deps.db)
  const bases = models.map(({ baseSha256 }) => baseSha256)
  for (const model of models) await describeOf(deps, model, bases)
}

async function describeOf(
  deps: PlanDeps & DescribeDeps,
  model: ModelRow,
  bases: readonly string[],
): Promise<void> {
  const policy = await findPolicy(deps, model.id)
  const { triggers, influence } = policy
  if (!triggers.enabled || influence.outlier_deviations === null) return
  const budget = { texts: MAX_DESCRIBED, untilMs: deps.nowMs() + MAX_MS }
  const request = drawOf({ model: model.id, ...demandOf(model, policy) }, influence)
  for (const { name } of await listDomains(deps.db)) {
    if (budget.texts <= 0 || deps.nowMs() >= budget.untilMs) return
    const { newCharacters } = await deps.reservoir(name).stats(model.id)
    if (estimateTokens(newCharacters) < triggers.new_segments * SEGMENT_TOKENS * SOON) continue
    await describeLosses(deps, model, name, request, { bases, budget })
  }
}
