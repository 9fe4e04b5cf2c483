import type { ProposalEntry, WaitingTexts } from '@copal/shared/wire/admin-proposals.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { ProposalRow } from '../../storage/db/queries/discovery-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { MAX_CLUSTERED } from './propose-domains.ts'

/** Texts of a proposal that are shown, and characters of each. */
const PREVIEW = { texts: 3, characters: 240 }

/** Returns open proposals that have texts as the admin API shows them, with the beginnings of some of these. */
export async function proposalEntries(
  { reservoir }: Pick<Deps, 'reservoir'>,
  rows: readonly ProposalRow[],
): Promise<ProposalEntry[]> {
  if (rows.length === 0) return []
  const previews = await reservoir(UNASSIGNED).previewsOf(
    rows.map(({ id }) => id),
    PREVIEW,
  )
  const withTexts = rows.filter(({ id }) => (previews[id]?.length ?? 0) > 0)
  return withTexts.map(
    ({ id, model, name, terms, texts, characters, state, domain, createdAt, updatedAt }): ProposalEntry => ({
      id,
      model,
      name,
      terms,
      texts,
      characters,
      state,
      domain,
      preview: [...new Set(previews[id])],
      created_at: new Date(createdAt).toISOString(),
      updated_at: new Date(updatedAt).toISOString(),
    }),
  )
}

/**
 * Counts the texts that wait to be grouped, and of these the ones that a node has read: for the model whose nodes have read most,
 * because each model groups texts by itself, and one without a node never reads any.
 */
export async function waitingTexts(
  { reservoir }: Pick<Deps, 'reservoir'>,
  models: readonly Pick<ModelRow, 'baseSha256'>[],
): Promise<WaitingTexts> {
  const counts = await Promise.all(
    models.map(({ baseSha256 }) => reservoir(UNASSIGNED).countDescribed(baseSha256, MAX_CLUSTERED)),
  )
  return {
    texts: Math.max(0, ...counts.map(({ described, missing }) => described + missing)),
    read: Math.max(0, ...counts.map(({ described }) => described)),
  }
}
