import {
  acceptProposal,
  mergeProposal,
  proposalList,
  settledProposal,
} from '@copal/shared/wire/admin-proposals.ts'
import { z } from 'zod'
import { named, operationsOf } from './operation.ts'

const params = { id: z.string() }
const settled = {
  response: named('SettledProposal', settledProposal),
  errors: ['not_found', 'conflict'],
} as const

/** Operations on domains that were found in texts without one. */
export const PROPOSAL_OPERATIONS = operationsOf({ tag: 'Adaptation', key: 'operator' }, [
  {
    method: 'get',
    path: '/admin/proposals',
    id: 'listProposals',
    summary: 'Lists the domains that were found and wait for a decision, the largest first.',
    query: { model: 'Id of the model by whose embeddings they were found. Default: all.' },
    response: named('ProposalList', proposalList),
    errors: ['model_not_found', 'no_node_available'],
  },
  {
    method: 'post',
    path: '/admin/proposals/{id}/accept',
    id: 'acceptProposal',
    summary:
      'Makes a proposal a domain, which belongs to the tenant that all its texts are of, or else to all. Its texts move there, and later ones of the kind go there.',
    params,
    body: named('AcceptProposal', acceptProposal),
    ...settled,
  },
  {
    method: 'post',
    path: '/admin/proposals/{id}/merge',
    id: 'mergeProposal',
    summary:
      'Moves the texts of a proposal into a domain, as far as their keys may use it; the others go to the defaults of their keys.',
    params,
    body: named('MergeProposal', mergeProposal),
    ...settled,
  },
  {
    method: 'post',
    path: '/admin/proposals/{id}/discard',
    id: 'discardProposal',
    summary: 'Discards a proposal and deletes its texts. Later texts of the kind may be proposed again.',
    params,
    ...settled,
  },
])
