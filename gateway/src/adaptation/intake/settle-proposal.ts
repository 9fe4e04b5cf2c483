import { AppError } from '@copal/shared/errors.ts'
import { DEFAULT_DOMAIN } from '@copal/shared/wire/admin-keys.ts'
import { recordAudit } from '../../audit/record-audit.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { OfferedSample } from '../../contracts/reservoir-object.ts'
import {
  decideProposal,
  findKeyReaches,
  findProposals,
  insertDomain,
  type ProposalRow,
} from '../../storage/db/queries/discovery-queries.ts'
import { ensureDomains, listDomains } from '../../storage/db/queries/domain-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { requireNotBeingDeleted } from '../domains/domain-deletion.ts'
import { findTombstones, isDeleted } from '../sampling/tombstones.ts'
import { NO_PROPOSAL } from './propose-domains.ts'
import { mayUse } from './sort-samples.ts'

/** Texts that are moved by one call of the reservoirs: with 16 sources each and 64 KB they must fit into a message. */
const TEXTS_PER_MOVE = 16

type SettleDeps = Pick<Deps, 'db' | 'reservoir' | 'nowMs'>

/** Who decides about a proposal, for the audit log. */
export interface Decider {
  actor: string
  reason?: string
  requestId?: string
}

/**
 * Makes a proposal a domain, which belongs to the tenant that all its texts are of, or else to all. {@link settleTexts} moves its
 * texts there.
 *
 * @throws AppError `conflict` if the proposal is decided or has no texts any more, or the name is taken
 */
export async function acceptProposal(
  deps: SettleDeps,
  proposal: ProposalRow,
  name: string,
  decider: Decider,
): Promise<{ domain: string; owner: string | null }> {
  const { db, nowMs } = deps
  await requireTexts(deps, proposal.id)
  const owner = await ownerOf(deps, proposal.id)
  if (name === DEFAULT_DOMAIN || (await listDomains(db)).some((domain) => domain.name === name)) {
    const message = `There is a domain '${name}' already. Give another name, or merge the proposal into it.`
    throw new AppError('conflict', message, { param: 'name' })
  }
  await decide(deps, proposal, { state: 'accepted', domain: name }, decider)
  await insertDomain(db, { name, createdAt: nowMs(), owner })
  return { domain: name, owner }
}

/**
 * Decides that the texts of a proposal belong to a domain. {@link settleTexts} moves them.
 *
 * @throws AppError `conflict` if the proposal is decided or has no texts any more, or the domain is being deleted; `not_found` if there
 *   is no such domain
 */
export async function mergeProposal(
  deps: SettleDeps,
  proposal: ProposalRow,
  domain: string,
  decider: Decider,
): Promise<{ owner: string | null }> {
  const known = (await listDomains(deps.db)).find(({ name }) => name === domain)
  if (!known) {
    const message = `There is no domain '${domain}'. 'GET /admin/domains' lists them.`
    throw new AppError('not_found', message, { param: 'domain' })
  }
  await requireNotBeingDeleted(deps, domain)
  await requireTexts(deps, proposal.id)
  await decide(deps, proposal, { state: 'merged', domain }, decider)
  return { owner: known.owner }
}

/**
 * Discards a proposal. {@link settleTexts} deletes its texts.
 *
 * @throws AppError `conflict` if the proposal is decided
 */
export async function discardProposal(
  deps: SettleDeps,
  proposal: ProposalRow,
  decider: Decider,
): Promise<void> {
  await decide(deps, proposal, { state: 'discarded', domain: null }, decider)
}

/**
 * Moves the texts of a decided proposal into its domain with their sides, as far as their keys may use it; the others go to their
 * keys' defaults. If it has none, deletes them. If this is interrupted, {@link finishProposals} goes on.
 */
export async function settleTexts(deps: SettleDeps, id: string, domain: string | null): Promise<void> {
  if (domain === null) await deleteTextsOf(deps, id)
  else await moveTexts(deps, { id, domain })
}

/** Moves or deletes what is left of the texts of decided proposals. Returns the ids of the proposals that had texts before. */
export async function finishProposals(deps: SettleDeps): Promise<string[]> {
  const sizes = await deps.reservoir(UNASSIGNED).proposalSizes()
  const ids = Object.keys(sizes).filter((id) => id !== NO_PROPOSAL)
  if (ids.length === 0) return ids
  for (const { id, state, domain, createdAt } of await findProposals(deps.db, ids)) {
    if (state === 'proposed') continue
    if (state === 'accepted' && domain !== null)
      await insertDomain(deps.db, { name: domain, createdAt, owner: await ownerOf(deps, id) })
    await settleTexts(deps, id, domain)
  }
  return ids
}

/**
 * Rejects a proposal whose texts are deleted or have expired, and which the cron task deletes: as a domain it would be of no tenant, and
 * have words of these texts.
 *
 * @throws AppError `conflict`
 */
async function requireTexts({ reservoir }: Pick<Deps, 'reservoir'>, id: string): Promise<void> {
  if ((await reservoir(UNASSIGNED).tenantsOf(id, 1)).length > 0) return
  const message = `The proposal '${id}' has no texts any more. 'GET /admin/proposals' lists those that have.`
  throw new AppError('conflict', message)
}

/** Returns the tenant that all texts of a proposal are of; null if there are several, or one is unknown. */
async function ownerOf({ reservoir }: Pick<Deps, 'reservoir'>, id: string): Promise<string | null> {
  const tenants = await reservoir(UNASSIGNED).tenantsOf(id, 2)
  return (tenants.length === 1 && tenants[0]) || null
}

async function decide(
  deps: SettleDeps,
  proposal: ProposalRow,
  decision: Pick<ProposalRow, 'state' | 'domain'>,
  { actor, reason, requestId }: Decider,
): Promise<void> {
  const { id, model, texts } = proposal
  if (!(await decideProposal(deps.db, id, decision, deps.nowMs()))) {
    const message = `The proposal '${id}' is decided already, or was replaced. 'GET /admin/proposals' lists the open ones.`
    throw new AppError('conflict', message)
  }
  await recordAudit(deps, {
    actor,
    action: `proposal.${decision.state}`,
    target: id,
    before: { model, texts, state: proposal.state },
    after: decision,
    ...(reason === undefined ? {} : { reason }),
    requestId,
  })
}

/** Offers the texts of a proposal to a domain, and deletes them from the staging area when that has them. */
async function moveTexts(deps: SettleDeps, { id, domain }: { id: string; domain: string }): Promise<void> {
  const staging = deps.reservoir(UNASSIGNED)
  const owners = new Map((await listDomains(deps.db)).map(({ name, owner }) => [name, owner]))
  for (;;) {
    const { hashes, offers } = await staging.offersOf(id, TEXTS_PER_MOVE)
    if (hashes.length === 0) return
    const reaches = await findKeyReaches(deps.db, [...new Set(offers.map(({ keyId }) => keyId))])
    const target = ({ keyId, tenant }: OfferedSample): string => {
      const reach = reaches.get(keyId) ?? { tenant, allowedDomains: null, defaultDomain: '' }
      const { defaultDomain } = reach
      if (mayUse(domain, reach, owners)) return domain
      // The default of a key may be no domain yet.
      return !owners.has(defaultDomain) || mayUse(defaultDomain, reach, owners) ? defaultDomain : ''
    }
    for (const [name, group] of Map.groupBy(offers, target)) {
      if (name === '') continue
      if (!owners.has(name)) await ensureDomains(deps.db, [name], deps.nowMs())
      // A deletion in all domains misses this reservoir if it listed the domains before this one was registered.
      const deletions = await findTombstones(deps, Math.min(...group.map(({ atMs }) => atMs)))
      await deps
        .reservoir(name)
        .offer(group.filter((offer) => !isDeleted(deletions, name, offer, offer.atMs)))
    }
    await staging.deleteByHash(hashes)
  }
}

async function deleteTextsOf({ reservoir }: Pick<Deps, 'reservoir'>, id: string): Promise<void> {
  const staging = reservoir(UNASSIGNED)
  for (;;) {
    const { hashes } = await staging.offersOf(id, TEXTS_PER_MOVE)
    if (hashes.length === 0) return
    await staging.deleteByHash(hashes)
  }
}
