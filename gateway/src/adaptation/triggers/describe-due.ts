import type { Deps } from '../../contracts/bindings.ts'
import { estimateTokens } from '../holdouts/holdout-rules.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { findPolicy } from '../policy/find-policy.ts'
import type { DescribeDeps } from '../sampling/describe-and-store.ts'
import { inRandomOrder } from '../../runtime/random-order.ts'
import { askedWithin, domainStats } from '../sampling/domain-counts.ts'
import { describeLosses } from '../sampling/describe-losses.ts'
import { drawOf } from '../updates/draw-of.ts'
import { demandOf } from '../updates/update-choices.ts'
import { SEGMENT_TOKENS } from './due-domain.ts'
import type { PlanDeps } from './gather-plan.ts'

/** Texts that a run has described at most for each model, and how long it does. */
const MAX_DESCRIBED = 192
const MAX_MS = 45_000
/** Domains of a model whose texts a run has described at most. */
const MAX_DOMAINS = 16
/** Calls with which the texts of a domain are begun: which texts, which node, their descriptions, and where they are stored. */
const DOMAIN_CALLS = 4
/** Part of the new text that makes a domain due, from which on its texts are described. */
const SOON = 1 / 2

type DescribeDueDeps = PlanDeps & DescribeDeps & Pick<Deps, 'calls'>

/**
 * Has the texts of domains described that are due or will be soon, so that their outliers are set aside when an update takes
 * texts. A task of the cron trigger. What it leaves, the update has described.
 */
export async function describeDue(deps: DescribeDueDeps): Promise<void> {
  const models = await listModels(deps.db)
  const bases = models.map(({ baseSha256 }) => baseSha256)
  for (const model of inRandomOrder(models)) await describeOf(deps, model, bases)
}

async function describeOf(deps: DescribeDueDeps, model: ModelRow, bases: readonly string[]): Promise<void> {
  const policy = await findPolicy(deps, model.id)
  const { triggers, influence } = policy
  if (!triggers.enabled || influence.outlier_deviations === null) return
  const budget = { texts: MAX_DESCRIBED, untilMs: deps.nowMs() + MAX_MS }
  const request = drawOf({ model: model.id, ...demandOf(model, policy) }, influence)
  const names = (await listDomains(deps.db)).map(({ name }) => name)
  const stats = await domainStats(deps, names, {
    model: model.id,
    maxAsked: askedWithin(deps.calls, 2),
  })
  const minTokens = triggers.new_segments * SEGMENT_TOKENS * SOON
  const due = names.filter((name) => estimateTokens(stats.get(name)?.newCharacters ?? 0) >= minTokens)
  for (const name of inRandomOrder(due).slice(0, MAX_DOMAINS)) {
    if (budget.texts <= 0 || deps.nowMs() >= budget.untilMs || deps.calls.left < DOMAIN_CALLS) return
    await describeLosses(deps, model, name, request, { bases, budget })
  }
}
