import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { UpdateRequest } from '@copal/shared/wire/admin.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { findMask } from '../../storage/db/queries/mask-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { findUpdate, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { requireOffered } from '../policy/offered-methods.ts'
import type { TextDemand } from './text-sufficiency.ts'

/**
 * The default methods, best first by measured perplexity. They need the measured sensitivity of a model's outputs or of
 * its parts; nodes offer them for models where that was measured.
 */
const DEFAULT_METHODS = ['continual-wanda+allocated+rows+swaps', 'continual-wanda+allocated+swaps'] as const
const PLAIN_METHOD = 'continual-wanda+swaps'

/** The pattern of a model's first mask, unless the update or the policy says another. */
const FIRST_PATTERN = '0.5'

/**
 * Returns the text that an update takes of each domain: what it asks for itself, or else what the policy says. A length of the
 * policy that the context of the model does not hold becomes shorter sequences, and more of them.
 */
export function demandOf(
  { contextLength }: Pick<ModelRow, 'contextLength'>,
  { calibration }: Pick<AdaptationPolicy, 'calibration'>,
  asked: Partial<UpdateRequest> = {},
): TextDemand {
  const length = asked.length ?? Math.min(calibration.length, contextLength)
  const longer = asked.length === undefined ? calibration.length : length
  const samples = asked.samples ?? Math.ceil((calibration.samples * longer) / length)
  return { samples, length }
}

/**
 * Returns the pattern of an update, the patterns of single linears, and the scope: what it asks for itself, or else the pattern of
 * the policy. Where the policy has none either, an update keeps all three as they are in the mask that serves, so that an update
 * which starts by itself does not change what an operator chose.
 */
export async function patternsOf(
  { db }: Pick<Deps, 'db'>,
  model: Pick<ModelRow, 'id' | 'activeVersion'>,
  { selection }: Pick<AdaptationPolicy, 'selection'>,
  asked: UpdateRequest['selection'],
): Promise<Pick<UpdateRow, 'pattern' | 'patterns' | 'scope'>> {
  const pattern = asked.pattern ?? selection.pattern
  const kept =
    pattern === null ? await patternsInForce(db, model) : { pattern, patterns: {}, scope: 'row' as const }
  return {
    pattern: kept.pattern,
    patterns: asked.patterns ?? kept.patterns,
    scope: asked.scope ?? kept.scope,
  }
}

/**
 * Returns the pruning method of an update: the one that it or the policy names, or else the best default method that a node offers
 * and that the pattern allows. With an n:m pattern the policy's method is used without `+allocated` and `+rows`.
 *
 * @throws AppError `invalid_request` for a method that no node offers
 */
export async function methodOf(
  { fleet }: Pick<Deps, 'fleet'>,
  model: string,
  { selection }: Pick<AdaptationPolicy, 'selection'>,
  asked: { method: string | undefined; pattern: string },
): Promise<string> {
  const offered = await fleet.offeredMethods(model)
  // An n:m pattern prunes every linear and row alike, so the sparsity cannot be allocated.
  const isAllocable = !asked.pattern.includes(':')
  const best = isAllocable ? DEFAULT_METHODS.find((name) => offered?.includes(name)) : undefined
  const ofPolicy = isAllocable ? selection.method : selection.method?.replace(/\+allocated|\+rows/g, '')
  const method = asked.method ?? ofPolicy ?? best ?? PLAIN_METHOD
  requireOffered(model, method, offered)
  return method
}

/** Returns how the mask that serves was selected. Only the pattern of an imported mask is known. */
async function patternsInForce(
  db: Deps['db'],
  { id, activeVersion }: Pick<ModelRow, 'id' | 'activeVersion'>,
): Promise<Pick<UpdateRow, 'pattern' | 'patterns' | 'scope'>> {
  const mask = activeVersion === 0 ? undefined : await findMask(db, id, activeVersion)
  const { patterns = {}, scope = 'row' } = (mask && (await findUpdate(db, mask.updateId))) ?? {}
  return { pattern: mask?.pattern ?? FIRST_PATTERN, patterns, scope }
}
