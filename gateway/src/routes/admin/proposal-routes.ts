import { Hono, type Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { acceptProposal, mergeProposal, type SettledProposal } from '@copal/shared/wire/admin-proposals.ts'
import { findDomains } from '../../adaptation/intake/find-domains.ts'
import { proposalEntry } from '../../adaptation/intake/proposal-entry.ts'
import {
  acceptProposal as accept,
  discardProposal as discard,
  mergeProposal as merge,
  type Decider,
} from '../../adaptation/intake/settle-proposal.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { actorId } from '../../keys/actor-id.ts'
import { rejectMethod } from '../../middleware/error-responses.ts'
import { findProposals, listProposals, type ProposalRow } from '../../storage/db/queries/discovery-queries.ts'
import { readAdminBody } from './admin-body.ts'

/** Creates the routes that list the domains that were found, and accept, merge or discard them. */
export function proposalRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/proposals', async (c) => {
      const { deps } = c.var
      const model = c.req.query('model')
      if (model !== undefined) await findOperatorModel(deps.db, model)
      const rows = await listProposals(deps.db, {
        state: 'proposed',
        ...(model === undefined ? {} : { model }),
      })
      return c.json({ data: await Promise.all(rows.map((row) => proposalEntry(deps, row))) })
    })
    .all('/proposals', rejectMethod('GET'))
    .post('/proposals/:id/accept', async (c) => {
      const { name } = await readAdminBody(c, acceptProposal)
      const proposal = await requireProposal(c)
      const { domain, owner } = await accept(c.var.deps, proposal, name ?? proposal.name, deciderOf(c))
      train(c)
      return c.json({ id: proposal.id, state: 'accepted', domain, owner } satisfies SettledProposal)
    })
    .all('/proposals/:id/accept', rejectMethod('POST'))
    .post('/proposals/:id/merge', async (c) => {
      const { domain } = await readAdminBody(c, mergeProposal)
      const proposal = await requireProposal(c)
      const { owner } = await merge(c.var.deps, proposal, domain, deciderOf(c))
      train(c)
      return c.json({ id: proposal.id, state: 'merged', domain, owner } satisfies SettledProposal)
    })
    .all('/proposals/:id/merge', rejectMethod('POST'))
    .post('/proposals/:id/discard', async (c) => {
      const proposal = await requireProposal(c)
      await discard(c.var.deps, proposal, deciderOf(c))
      return c.json({
        id: proposal.id,
        state: 'discarded',
        domain: null,
        owner: null,
      } satisfies SettledProposal)
    })
    .all('/proposals/:id/discard', rejectMethod('POST'))
}

function deciderOf(c: Context<ActorEnv>): Decider {
  const { deps, actor, requestId } = c.var
  return { actor: actorId(deps, actor), requestId }
}

/** Trains the classifier on the new domain after the response; if that fails, the cron task does. */
function train(c: Context<ActorEnv>): void {
  const { deps } = c.var
  deps.waitUntil(
    findDomains(deps).catch((error: unknown) =>
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
