import { DAY_MS } from '@copal/shared/day.ts'
import { AppError } from '@copal/shared/errors.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { inRandomOrder } from '../../runtime/random-order.ts'
import {
  deleteDecidedProposals,
  isDiscovering,
  listProposals,
} from '../../storage/db/queries/discovery-queries.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { forgetEmptyProposals } from './forget-proposals.ts'
import { proposeDomains } from './propose-domains.ts'
import { acceptProposal, finishProposals, settleTexts } from './settle-proposal.ts'
import { trainOnExamples } from './train-on-examples.ts'

/** Texts that a run has described, at most, for each model. */
const MAX_DESCRIBED = 96
/** Days that decided proposals are listed. */
const DECIDED_DAYS = 30

type FindDeps = Parameters<typeof trainOnExamples>[0] & Pick<Deps, 'adaptationPreset'>

/**
 * The cron task that finds domains: proposes clusters of the texts that fit into none, accepts those that the policy lets
 * be accepted, and trains the classifier of each model. Without a node, what needs none is done.
 */
export async function findDomains(deps: FindDeps): Promise<void> {
  const withTexts = await finishProposals(deps)
  await deleteDecidedProposals(deps.db, deps.nowMs() - DECIDED_DAYS * DAY_MS)
  await forgetEmptyProposals(deps, withTexts)
  if (!(await isDiscovering(deps.db)) && (await isStagingEmpty(deps))) return
  const models = await listModels(deps.db)
  const bases = models.map(({ baseSha256 }) => baseSha256)
  for (const model of inRandomOrder(models)) {
    try {
      await findDomainsOf(deps, model, bases)
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      // No node, or one that has no time, is nothing to tell of.
      if (!(error instanceof AppError) || !error.retryable)
        console.error(`Finding domains of model '${model.id}' failed; the next run tries again:`, error)
    }
  }
}

async function findDomainsOf(deps: FindDeps, model: ModelRow, bases: readonly string[]): Promise<void> {
  const { discovery } = await findPolicy(deps, model.id)
  if (!discovery.enabled) return
  const budget = { texts: MAX_DESCRIBED }
  await proposeDomains(deps, model, budget, bases)
  if (discovery.accept_texts !== null) await acceptLarge(deps, model, discovery.accept_texts)
  await trainOnExamples(deps, model, budget, bases)
}

/** Accepts the proposals that have enough texts, which may be fewer than when they were proposed. */
async function acceptLarge(deps: FindDeps, model: ModelRow, minTexts: number): Promise<void> {
  const open = await listProposals(deps.db, { model: model.id, state: 'proposed' })
  const taken = new Set((await listDomains(deps.db)).map(({ name }) => name))
  if (!open.some(({ texts }) => texts >= minTexts)) return
  const sizes = await deps.reservoir(UNASSIGNED).proposalSizes()
  for (const proposal of open) {
    const texts = sizes[proposal.id] ?? 0
    // Somebody else's since: the next proposal of the texts has another name.
    if (texts < minTexts || taken.has(proposal.name)) continue
    const reason = `It has ${texts} texts; the policy accepts those of ${minTexts}.`
    const { domain } = await acceptProposal(deps, proposal, proposal.name, { actor: 'copal', reason })
    await settleTexts(deps, proposal.id, domain)
  }
}

async function isStagingEmpty({ reservoir }: Pick<Deps, 'reservoir'>): Promise<boolean> {
  const { samples, holdoutSamples } = await reservoir(UNASSIGNED).stats()
  return samples + holdoutSamples === 0
}
