import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import { MAX_OWN_MASKS } from '@copal/shared/wire/heartbeat.ts'
import { listCountedDomains } from '../../storage/db/queries/batch-queries.ts'
import { listEvaluations } from '../../storage/db/queries/evaluation-queries.ts'
import { listLatestHoldouts } from '../../storage/db/queries/holdout-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { listSoughtDomains } from '../../storage/db/queries/own-mask-queries.ts'
import { listReservoirCounts } from '../../storage/db/queries/reservoir-count-queries.ts'
import { ofHoldout, pointFigure, COMPARISONS } from '../gate/gate-figures.ts'
import { heldOutTokens, minHeldOutTokens } from '../holdouts/holdout-rules.ts'
import { MAX_ASKED } from '../sampling/domain-counts.ts'
import { evaluationWindow } from '../updates/evaluation-window.ts'
import type { PlanDeps } from './gather-plan.ts'

/** A domain for which a mask of its own is to be sought. */
export interface DueOwnMask {
  domain: string
  reason: string
  figure: DecisionFigure
}

/**
 * Returns the domain that a mask of its own could help most, if the policy allows such masks: the shared mask costs it most
 * beside the dense model, and more than a mask of its own must gain. Each domain is tried once beside each shared mask, and
 * none while that is still watched and may be rolled back, or without the held-out text that judges a mask of it alone.
 */
export async function findDueOwnMask(
  { db, reservoir }: Pick<PlanDeps, 'db' | 'reservoir'>,
  model: ModelRow,
  { discovery }: AdaptationPolicy,
): Promise<DueOwnMask | undefined> {
  const { id, activeVersion, domainVersions, watch } = model
  if (!discovery.own_masks || activeVersion === 0 || watch?.version === activeVersion) return undefined
  if (domainVersions.size >= MAX_OWN_MASKS) return undefined
  const [holdouts, evaluations, counted, sought] = await Promise.all([
    listLatestHoldouts(db),
    listEvaluations(db, id, [0, activeVersion]),
    listCountedDomains(db, id),
    listSoughtDomains(db, id, activeVersion),
  ])
  const lossOf = (version: number, sha256: string) =>
    evaluations.find((each) => each.version === version && each.holdoutSha256 === sha256)
  const costs = holdouts.flatMap(({ domain, sha256, characters }) => {
    if (!counted.has(domain) || sought.has(domain) || domainVersions.has(domain)) return []
    const [shared, dense] = [lossOf(activeVersion, sha256), lossOf(0, sha256)]
    if (!shared || !dense || !sameNumerics(shared.numerics, dense.numerics)) return []
    return [{ domain, sha256, characters, tokens: shared.tokens, cost: shared.nllMean - dense.nllMean }]
  })
  const needed = minHeldOutTokens(evaluationWindow(model)).alone
  const isJudgeable = async ({ domain, characters: latest }: (typeof costs)[number]) => {
    const { holdoutCharacters } = await reservoir(domain).stats()
    return heldOutTokens({ latest, reservoir: holdoutCharacters }) >= needed
  }
  const minCost = Math.log(discovery.own_mask_gain)
  const costly = costs
    .filter(({ cost }) => cost >= minCost)
    .toSorted((a, b) => b.cost - a.cost || a.domain.localeCompare(b.domain))
  for (const each of await likelyJudgeable({ db }, costly, needed))
    if (await isJudgeable(each)) return dueOf(model, discovery, each)
  return undefined
}

/** Returns the domains to ask, in their order: of many only those that have enough held-out text by the counts in D1. */
async function likelyJudgeable<Domain extends { domain: string; characters: number }>(
  { db }: Pick<PlanDeps, 'db'>,
  domains: readonly Domain[],
  needed: number,
): Promise<Domain[]> {
  if (domains.length <= MAX_ASKED) return [...domains]
  const counts = await listReservoirCounts(db)
  const likely = domains.filter(({ domain, characters: latest }) => {
    const reservoir = counts.get(domain)?.holdoutCharacters ?? 0
    return heldOutTokens({ latest, reservoir }) >= needed
  })
  return likely.slice(0, MAX_ASKED)
}

function dueOf(
  { activeVersion }: ModelRow,
  discovery: AdaptationPolicy['discovery'],
  { domain, sha256, tokens, cost }: { domain: string; sha256: string; tokens: number; cost: number },
): DueOwnMask {
  const holdout = { domain, sha256, windowTokens: [tokens], isNew: false, weight: 1 }
  const measured = ofHoldout({ ...holdout, candidate: { nllMean: null, windowNll: null } })
  const figure = pointFigure(COMPARISONS.dense, cost, discovery.own_mask_gain, measured)
  const reason =
    `'${domain}': its perplexity under the shared m${activeVersion} is ${Math.exp(cost).toFixed(2)} × that of the dense ` +
    'model, so that a mask of its own may gain enough.'
  return { domain, reason, figure: { ...figure, passed: true } }
}
