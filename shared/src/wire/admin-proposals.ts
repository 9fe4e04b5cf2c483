/** Domains that were found in texts without a domain, as the admin API shows and settles them. Public, so snake_case. */
import { z } from 'zod'
import { time } from './identifiers.ts'
import { domainName } from './inference-fields.ts'

/** One entry of `GET /admin/proposals`. */
export const proposalEntry = z.object({
  id: z.string(),
  model: z.string(),
  name: z.string().describe('The suggested name, from the terms.'),
  terms: z.array(z.string()).describe('Words that more of its texts contain than of the others.'),
  texts: z.int(),
  characters: z.int(),
  state: z.enum(['proposed', 'accepted', 'discarded', 'merged']),
  domain: z.string().nullable().describe('The domain that it became or was merged into.'),
  preview: z.array(z.string()).describe('The beginnings of up to three of its texts, redacted.'),
  created_at: time,
  updated_at: time,
})
/** One entry of `GET /admin/proposals`. */
export type ProposalEntry = z.output<typeof proposalEntry>

/** Texts that wait to be grouped. */
export const waitingTexts = z.object({
  texts: z
    .int()
    .describe('Texts that fit into no domain, in a proposal or not; at most 512, those that are grouped.'),
  read: z.int().describe('How many of them a node has read. From 24 on they are grouped once all are read.'),
})
/** Texts that wait to be grouped. */
export type WaitingTexts = z.output<typeof waitingTexts>

/** Response of `GET /admin/proposals`; earlier gateways do not tell what waits. */
export const proposalList = z.object({
  data: z.array(proposalEntry),
  waiting: waitingTexts.optional(),
})
/** Response of `GET /admin/proposals`. */
export type ProposalList = z.output<typeof proposalList>

/** Body of `POST /admin/proposals/:id/accept`. */
export const acceptProposal = z.strictObject({
  name: domainName.optional().describe('Name of the new domain. Left out: the suggested one.'),
})

/** Body of `POST /admin/proposals/:id/merge`. */
export const mergeProposal = z.strictObject({
  domain: domainName.describe('The domain that gets its texts.'),
})

/** Response of the calls that settle a proposal. */
export const settledProposal = z.object({
  id: z.string(),
  state: z.enum(['accepted', 'discarded', 'merged']),
  domain: z.string().nullable(),
  owner: z.string().nullable().describe('The tenant that alone may use the domain; null: all may.'),
})
/** A response of a call that settles a proposal. */
export type SettledProposal = z.output<typeof settledProposal>
