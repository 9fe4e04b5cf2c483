import { AppError } from '@copal/shared/errors.ts'
import { MAX_GENERAL_CHARACTERS } from '@copal/shared/wire/admin-holdout.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { deleteDatasetFiles } from '../../storage/artifacts/datasets.ts'
import { forgetDatasets, listDatasetsOf } from '../../storage/db/queries/dataset-queries.ts'
import {
  findLatestHoldout,
  forgetHoldouts,
  type HoldoutRow,
} from '../../storage/db/queries/holdout-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { StoredText } from '../../contracts/reservoir-object.ts'
import { recogniseTexts } from '../redaction/recognise-texts.ts'
import { redact } from '../redaction/redact.ts'
import { MAX_PIECE_CHARACTERS } from '../sampling/sample-placement.ts'
import { splitText } from '../sampling/split-text.ts'
import { storeVersion } from './current-holdouts.ts'
import { estimateTokens, MIN_HOLDOUT_TOKENS } from './holdout-rules.ts'

/** Returns the latest version of the operator's general holdout. */
export async function findGeneralHoldout(deps: Pick<Deps, 'db'>): Promise<HoldoutRow | undefined> {
  return findLatestHoldout(deps.db, GENERAL_HOLDOUT)
}

/**
 * Stores texts as the next version of the general holdout, redacted. Masks are judged on it from the next update on. The same
 * texts as before make no new version.
 *
 * @throws AppError `invalid_request` if there is too much or too little text
 */
export async function setGeneralHoldout(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs' | 'recogniser'>,
  texts: readonly string[],
): Promise<HoldoutRow> {
  const parts = texts.flatMap((text) => splitText(redact(text), MAX_PIECE_CHARACTERS))
  const recognised = await recogniseTexts(deps.recogniser, parts)
  const pieces = recognised.map((text): StoredText => ({ text, sources: [] }))
  requireSize(pieces.reduce((sum, { text }) => sum + text.length, 0))
  for (;;) {
    const last = await findGeneralHoldout(deps)
    const stored = await storeVersion(deps, GENERAL_HOLDOUT, (last?.version ?? 0) + 1, pieces, last)
    if (stored.isCurrent) return stored.row
  }
}

/**
 * Deletes every version of the general holdout, its texts and the evaluations on it.
 *
 * @throws AppError `conflict` while an update that may read it is running
 */
export async function deleteGeneralHoldout(deps: Pick<Deps, 'db' | 'artifacts'>): Promise<void> {
  const [running] = await listRunningUpdates(deps.db)
  if (running) {
    throw new AppError(
      'conflict',
      `Nothing was deleted: update '${running.id}' is ${UPDATE_STATES[running.state]} and may read the general holdout. Wait until it ` +
        `ends, or cancel it with 'POST /admin/updates/${running.id}/cancel'.`,
    )
  }
  const hashes = await listDatasetsOf(deps.db, GENERAL_HOLDOUT)
  // First, so that a failure leaves no holdout without its texts, but datasets that nothing needs: the sweep deletes them.
  await forgetHoldouts(deps.db, GENERAL_HOLDOUT)
  await deleteDatasetFiles(deps, hashes)
  await forgetDatasets(deps.db, hashes)
}

function requireSize(characters: number): void {
  const tokens = estimateTokens(characters)
  if (characters > MAX_GENERAL_CHARACTERS) {
    throw new AppError(
      'invalid_request',
      `The texts have ${characters} characters, and ${MAX_GENERAL_CHARACTERS} are allowed, because every mask is evaluated on ` +
        'all of them. Send fewer texts.',
      { param: 'texts' },
    )
  }
  if (tokens < MIN_HOLDOUT_TOKENS) {
    throw new AppError(
      'invalid_request',
      `The texts have about ${tokens} tokens, and at least ${MIN_HOLDOUT_TOKENS} are needed to judge a mask. Send more texts.`,
      { param: 'texts' },
    )
  }
}
