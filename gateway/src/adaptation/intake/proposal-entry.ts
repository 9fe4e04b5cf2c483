import type { ProposalEntry } from '@copal/shared/wire/admin-proposals.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ProposalRow } from '../../storage/db/queries/discovery-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'

/** Texts of a proposal that are shown, and characters of each. */
const PREVIEW_TEXTS = 3
const PREVIEW_CHARACTERS = 240

/** Returns a proposal as the admin API shows it, with the beginnings of some of its texts while it is open. */
export async function proposalEntry(
  { reservoir }: Pick<Deps, 'reservoir'>,
  row: ProposalRow,
): Promise<ProposalEntry> {
  const { id, model, name, terms, texts, characters, state, domain, createdAt, updatedAt } = row
  const { offers } =
    state === 'proposed' ? await reservoir(UNASSIGNED).offersOf(id, PREVIEW_TEXTS) : { offers: [] }
  return {
    id,
    model,
    name,
    terms,
    texts,
    characters,
    state,
    domain,
    preview: [...new Set(offers.map(({ text }) => text.slice(0, PREVIEW_CHARACTERS).toWellFormed()))],
    created_at: new Date(createdAt).toISOString(),
    updated_at: new Date(updatedAt).toISOString(),
  }
}
