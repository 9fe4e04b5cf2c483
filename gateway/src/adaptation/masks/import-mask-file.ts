import { AppError } from '@copal/shared/errors.ts'
import type { MaskHeader } from '@copal/shared/mask/mask-header.ts'
import { asMaskInvalid, maskInvalid } from '@copal/shared/mask/mask-error.ts'
import { linearPattern } from '@copal/shared/mask/mask-metadata.ts'
import { keptCounts, parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { domainName } from '@copal/shared/wire/inference-fields.ts'
import type { ImportMask } from '@copal/shared/wire/mask-import.ts'
import {
  findMaskByHash,
  IMPORT_PREFIX,
  registerMask,
  type MaskRow,
} from '../../storage/db/queries/mask-queries.ts'
import { keepFile } from '../../storage/db/queries/sweep-queries.ts'
import { findModel, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { activateMask, type ImportUpdate } from './activate-imported.ts'
import { findOperatorModel } from '../models/find-operator-model.ts'
import { readStoredHeader } from '../../storage/artifacts/mask-files.ts'

/** Maximum number of domains that a mask may name. */
const MAX_DOMAINS = 256

/**
 * Stores a mask file from an operator and registers it as a mask version. With `activate` it is served once it has passed
 * the gate, or at once if it was active before.
 *
 * Only the header is checked here. Nodes check the bits: a node that cannot load the mask keeps serving the previous one.
 *
 * @param store stores the file in R2
 * @param actor the id of the admin key
 * @returns the update that evaluates the mask, if there is one
 * @throws AppError `mask_invalid`, `mask_base_mismatch`, `model_not_found`, `conflict` with `activate` for a mask that was
 * rolled back and while another update is running, and what `store` throws
 */
export async function importMaskFile(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>,
  sha256: string,
  request: ImportMask,
  { store, actor }: { store: () => Promise<unknown>; actor: string },
): Promise<{ model: ModelRow; mask: MaskRow; update?: ImportUpdate }> {
  const model = await findOperatorModel(deps.db, request.model)
  await store()
  // The sweep deletes a file that cannot be registered: meanwhile a node or another import may have come to need it.
  const mask = await register(deps, model, sha256, request.dense_weights)
  if (!request.activate) return { model, mask }
  const update = await activateMask(deps, model, mask, actor)
  if (update) return { model, mask, update }
  const [now, served] = await Promise.all([
    findModel(deps.db, model.id),
    findMaskByHash(deps.db, model.id, sha256),
  ])
  return { model: now ?? model, mask: served ?? mask }
}

async function register(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  model: ModelRow,
  sha256: string,
  denseWeights: number,
): Promise<MaskRow> {
  const known = await findMaskByHash(deps.db, model.id, sha256)
  if (known) {
    // Its file is here again; it is given up anew unless it becomes active or is pinned.
    if (known.sweptAt !== null) await keepFile(deps.db, known)
    return { ...known, sweptAt: null }
  }
  const header = await readStoredHeader(deps.artifacts, sha256)
  const { meta } = header
  if (meta.baseSha256 !== model.baseSha256) {
    throw new AppError(
      'mask_base_mismatch',
      `The mask was made for other dense weights: its base hash is ${meta.baseSha256}, that of '${model.id}' is ${model.baseSha256}. Import a mask that was made for this model.`,
    )
  }
  if (!/^[\w.+:-]{1,64}$/.test(meta.method))
    throw maskInvalid("metadata 'method' must be 1 to 64 letters, digits and .+-_:")
  const domains = [...new Set(meta.domains)].sort()
  if (domains.length > MAX_DOMAINS)
    throw maskInvalid(`it names ${domains.length} domains; at most ${MAX_DOMAINS} are allowed`)
  const badDomain = domains.find((domain) => !domainName.safeParse(domain).success)
  if (badDomain !== undefined)
    throw maskInvalid(`metadata 'domains' has ${JSON.stringify(badDomain)}, which is not a domain name`)
  const parent = meta.parent === null ? undefined : await findMaskByHash(deps.db, model.id, meta.parent)
  return registerMask(deps.db, {
    model: model.id,
    // Not the id of an update; it makes the registration of a file unique.
    updateId: `${IMPORT_PREFIX}${model.id}:${sha256}`,
    sha256,
    parentVersion: parent?.version ?? null,
    method: meta.method,
    pattern: meta.pattern,
    scope: meta.scope,
    sparsity: sparsityOf(header, model, denseWeights),
    churn: null,
    domains,
    bytes: header.fileBytes,
    createdAt: deps.nowMs(),
  })
}

/** Computes the pruned share of all weights of linears from the patterns; weights left dense are not in the file. */
function sparsityOf({ meta, linears }: MaskHeader, model: ModelRow, denseWeights: number): number {
  let pruned = 0
  let masked = 0
  for (const [name, { rows, cols }] of linears) {
    const counts = asMaskInvalid(
      () => keptCounts(parsePattern(linearPattern(meta, name)), meta.scope, rows, cols),
      name,
    )
    pruned += rows * cols - counts.groups * counts.kept
    masked += rows * cols
  }
  if (masked === 0) throw maskInvalid('it masks no linear')
  if (masked + denseWeights > model.parameters) {
    throw maskInvalid(
      `its linears have ${masked + denseWeights} weights, but '${model.id}' has ${model.parameters} parameters`,
    )
  }
  return pruned / (masked + denseWeights)
}
