import { Hono, type Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import {
  acceptProposal,
  mergeProposal,
  type ProposalList,
  type SettledProposal,
} from '@copal/shared/wire/admin-proposals.ts'
import { findDomains } from '../../adaptation/intake/find-domains.ts'
import { proposalEntries, waitingTexts } from '../../adaptation/intake/proposal-entry.ts'
import {
  acceptProposal as accept,
  discardProposal as discard,
  mergeProposal as merge,
  settleTexts,
  type Decider,
} from '../../adaptation/intake/settle-proposal.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { createCallBudget, untilUsedUp } from '../../calls/call-budget.ts'
import { meterDeps } from '../../calls/metered-deps.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { actorId } from '../../keys/actor-id.ts'
import { findProposals, listProposals, type ProposalRow } from '../../storage/db/queries/discovery-queries.ts'
import { listModels } from '../../storage/db/queries/model-queries.ts'
import { readAdminBody } from './admin-body.ts'

/** Creates the routes that list the domains that were found, and accept, merge or discard them. */
export function proposalRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/proposals', async (c) => {
      const { deps } = c.var
      const model = c.req.query('model')
      const models =
        model === undefined ? await listModels(deps.db) : [await findOperatorModel(deps.db, model)]
      const rows = await listProposals(deps.db, {
        state: 'proposed',
        ...(model === undefined ? {} : { model }),
      })
      const [data, waiting] = await Promise.all([proposalEntries(deps, rows), waitingTexts(deps, models)])
      return c.json({ data, waiting } satisfies ProposalList)
    })
    .post('/proposals/:id/accept', async (c) => {
      const { name } = await readAdminBody(c, acceptProposal)
      const proposal = await requireProposal(c)
      const { domain, owner } = await accept(c.var.deps, proposal, name ?? proposal.name, deciderOf(c))
      await settle(c, proposal, domain)
      return c.json({ id: proposal.id, state: 'accepted', domain, owner } satisfies SettledProposal)
    })
    .post('/proposals/:id/merge', async (c) => {
      const { domain } = await readAdminBody(c, mergeProposal)
      const proposal = await requireProposal(c)
      const { owner } = await merge(c.var.deps, proposal, domain, deciderOf(c))
      await settle(c, proposal, domain)
      return c.json({ id: proposal.id, state: 'merged', domain, owner } satisfies SettledProposal)
    })
    .post('/proposals/:id/discard', async (c) => {
      const proposal = await requireProposal(c)
      await discard(c.var.deps, proposal, deciderOf(c))
      await settle(c, proposal, null)
      return c.json({
        id: proposal.id,
        state: 'discarded',
        domain: null,
        owner: null,
      } satisfies SettledProposal)
    })
}

function deciderOf(c: Context<ActorEnv>): Decider {
  const { deps, actor, requestId } = c.var
  return { actor: actorId(deps, actor), requestId }
}

/**
 * Moves or deletes the texts of a decided proposal, and after the response trains the classifier on its domain. The calls of a request
 * are enough for most proposals; the cron task of every minute does the rest.
 */
async function settle(c: Context<ActorEnv>, { id }: ProposalRow, domain: string | null): Promise<void> {
  const deps = meterDeps(c.var.deps, createCallBudget())
  const name = `Settling the texts of proposal ${id}`
  await untilUsedUp(name, settleTexts(deps, id, domain))
  if (domain === null) return
  c.var.deps.waitUntil(
    untilUsedUp('Training the classifier', findDomains(deps)).catch((error: unknown) =>
      console.error('The classifier could not be trained now; the cron task will:', error),
    ),
  )
}

/** @throws AppError `not_found` */
async function requireProposal(c: Context<ActorEnv>): Promise<ProposalRow> {
  const id = c.req.param('id') ?? ''
  const [proposal] = await findProposals(c.var.deps.db, [id])
  if (proposal) return proposal
  throw new AppError('not_found', `There is no proposal '${id}'. 'GET /admin/proposals' lists them.`)
}
