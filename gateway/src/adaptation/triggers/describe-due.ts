import { estimateTokens } from '../holdouts/holdout-rules.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { findPolicy } from '../policy/find-policy.ts'
import type { DescribeDeps } from '../sampling/describe-and-store.ts'
import { askedPerModel, domainStats } from '../sampling/domain-counts.ts'
import { describeLosses } from '../sampling/describe-losses.ts'
import { drawOf } from '../updates/draw-of.ts'
import { demandOf } from '../updates/update-choices.ts'
import { SEGMENT_TOKENS } from './due-domain.ts'
import type { PlanDeps } from './gather-plan.ts'

/** Texts that a run has described at most for each model, and how long it does. */
const MAX_DESCRIBED = 192
const MAX_MS = 45_000
/** Domains whose texts a run has described, of all models together, and at least for each model. */
const MAX_DOMAINS = 16
const MIN_DOMAINS = 4
const MINUTE_MS = 60_000
/** Part of the new text that makes a domain due, from which on its texts are described. */
const SOON = 1 / 2

/**
 * Has the texts of domains described that are due or will be soon, so that their outliers are set aside when an update takes
 * texts. A task of the cron trigger. What it leaves, the update has described.
 */
export async function describeDue(deps: PlanDeps & DescribeDeps): Promise<void> {
  const models = await listModels(deps.db)
  const bases = models.map(({ baseSha256 }) => baseSha256)
  const bounds = {
    maxAsked: askedPerModel(models.length),
    maxDomains: Math.max(MIN_DOMAINS, Math.floor(MAX_DOMAINS / models.length)),
  }
  for (const model of models) await describeOf(deps, model, bases, bounds)
}

async function describeOf(
  deps: PlanDeps & DescribeDeps,
  model: ModelRow,
  bases: readonly string[],
  { maxAsked, maxDomains }: { maxAsked: number; maxDomains: number },
): Promise<void> {
  const policy = await findPolicy(deps, model.id)
  const { triggers, influence } = policy
  if (!triggers.enabled || influence.outlier_deviations === null) return
  const budget = { texts: MAX_DESCRIBED, untilMs: deps.nowMs() + MAX_MS }
  const request = drawOf({ model: model.id, ...demandOf(model, policy) }, influence)
  const names = (await listDomains(deps.db)).map(({ name }) => name)
  const stats = await domainStats(deps, names, { model: model.id, maxAsked })
  const minTokens = triggers.new_segments * SEGMENT_TOKENS * SOON
  const due = names.filter((name) => estimateTokens(stats.get(name)?.newCharacters ?? 0) >= minTokens)
  for (const name of inTurn(due, maxDomains, deps.nowMs())) {
    if (budget.texts <= 0 || deps.nowMs() >= budget.untilMs) return
    await describeLosses(deps, model, name, request, { bases, budget })
  }
}

/** Returns as many names as a run may take, other ones each minute, so that each comes round. */
function inTurn(names: readonly string[], count: number, nowMs: number): string[] {
  if (names.length <= count) return [...names]
  const first = (Math.floor(nowMs / MINUTE_MS) * count) % names.length
  return [...names.slice(first), ...names.slice(0, first)].slice(0, count)
}
