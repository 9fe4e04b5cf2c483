import { AppError } from '@copal/shared/errors.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import type { UpdateRequest } from '@copal/shared/wire/admin.ts'
import { ensureDomains } from '../../storage/db/queries/domain-queries.ts'
import { findUpdate, insertUpdate, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { requireText } from './require-text.ts'
import { advanceUpdate } from './advance-update.ts'
import { moveUpdate } from './move-update.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { resolveModel } from '../models/resolve-model.ts'
import type { StepDeps } from './update-step.ts'

/**
 * What wins on measured text among the methods of this version, the best first. They need to know what errors of a model's
 * outputs cost, or what pruning each part of it does; nodes offer them where that was measured.
 */
const DEFAULT_METHODS = ['continual-wanda+allocated+rows+swaps', 'continual-wanda+allocated+swaps'] as const
const PLAIN_METHOD = 'continual-wanda+swaps'
const DEFAULT_PATTERN = '0.5'

/**
 * Stores a new update; {@link beginUpdate} or the next heartbeat begins it.
 *
 * @throws AppError `insufficient_samples`, `conflict` that names the update of this model that is still running,
 * `invalid_request`, `model_not_found`, `no_node_available`
 */
export async function createUpdate(
  deps: Pick<StepDeps, 'db' | 'fleet' | 'reservoir' | 'nowMs'>,
  request: UpdateRequest,
): Promise<UpdateRow> {
  const model = await resolveModel(deps.db, request.model)
  const { samples, length, seed } = request
  if (length > model.contextLength) {
    throw new AppError(
      'invalid_request',
      `'length' is ${length} tokens, the context of '${model.id}' holds ${model.contextLength}.`,
      { param: 'length' },
    )
  }
  const { pattern = DEFAULT_PATTERN, scope = 'row', patterns = {} } = request.selection
  const method = await chooseMethod(deps, model.id, request.selection.method, pattern)
  const domains = [...new Set(request.domains)]
  await requireText(deps, domains, { samples, length }, evaluationWindow(model))
  await ensureDomains(deps.db, domains, deps.nowMs())
  const id = `upd_${crypto.randomUUID().replaceAll('-', '')}`
  const running = await insertUpdate(deps.db, {
    id,
    model: model.id,
    domains,
    method,
    pattern,
    patterns,
    scope,
    samples,
    length,
    seed,
    state: 'collecting',
    createdAt: deps.nowMs(),
  })
  if (running) {
    throw new AppError(
      'conflict',
      `Update '${running.id}' of '${model.id}' is still ${running.state}. Wait until it ends, or cancel it with ` +
        `'POST /admin/updates/${running.id}/cancel'.`,
    )
  }
  return requireUpdate(deps, id)
}

/**
 * The method asked for, or the best of the default ones that a node offers and the pattern allows. While no node of
 * the model is alive, nobody can tell: the node that takes the job will.
 *
 * @throws AppError `invalid_request` for a method that no node could choose a mask by
 */
async function chooseMethod(
  { fleet }: Pick<StepDeps, 'fleet'>,
  model: string,
  asked: string | undefined,
  pattern: string,
): Promise<string> {
  const offered = await fleet.offeredMethods(model)
  // n:m prunes every linear and row alike: there is nothing to share out.
  const shared = pattern.includes(':') ? undefined : DEFAULT_METHODS.find((name) => offered?.includes(name))
  const method = asked ?? shared ?? PLAIN_METHOD
  if (!offered || offered.includes(method)) return method
  const nearest = suggestName(method, offered)
  throw new AppError(
    'invalid_request',
    `No node of '${model}' offers the pruning method '${method}'.` +
      `${nearest === undefined ? '' : ` Did you mean '${nearest}'?`} ` +
      (offered.length > 0 ? describeOffer(offered) : 'They offer none: update the nodes.'),
    { param: 'selection.method' },
  )
}

/** A hundred methods are few rules with few refinements after them. */
function describeOffer(offered: readonly string[]): string {
  const parts = offered.map((name) => name.split('+'))
  const rules = new Set(parts.map(([rule]) => rule))
  const refinements = new Set(parts.flatMap(([, ...rest]) => rest).sort())
  const after = refinements.size > 0 ? `; after one may come +${[...refinements].join(', +')}` : ''
  return (
    `The rules are ${[...rules].join(', ')}${after}. 'copal methods' tells what goes together ` +
    `('+allocated' and '+rows' are where the model was measured: copal lab --help).`
  )
}

/** Begins an update at once. Not needed for it to run, and never fails: heartbeats and cron advance it as well. */
export async function beginUpdate(deps: StepDeps & Pick<Deps, 'updateWorkflow'>, id: string): Promise<void> {
  const results = await Promise.allSettled([
    deps.updateWorkflow.create({ id, params: { updateId: id } }),
    advanceUpdate(deps, id),
  ])
  for (const result of results) {
    if (result.status === 'rejected') console.error(`Update ${id} starts late:`, result.reason)
  }
}

/**
 * Cancels an update; nodes drop its job with their next heartbeat.
 *
 * @throws AppError `not_found`, `conflict` when it is too late
 */
export async function cancelUpdate(
  deps: Pick<StepDeps, 'db' | 'artifacts' | 'nowMs'>,
  id: string,
): Promise<UpdateRow> {
  for (;;) {
    const update = await requireUpdate(deps, id)
    if (update.state === 'cancelled') return update
    if (await moveUpdate(deps, update, { event: 'cancelled', patch: {} })) return requireUpdate(deps, id)
    // Lost a race: read again. Otherwise the state does not allow it.
    if ((await requireUpdate(deps, id)).revision !== update.revision) continue
    throw new AppError(
      'conflict',
      update.state === 'promoting' || update.state === 'promoted'
        ? `Update '${id}' is ${update.state}: its mask may be active. Take it back with 'POST /admin/rollback'.`
        : `Update '${id}' has ended already: it is ${update.state}.`,
    )
  }
}

/**
 * One update.
 *
 * @throws AppError `not_found`
 */
export async function requireUpdate(deps: Pick<StepDeps, 'db'>, id: string): Promise<UpdateRow> {
  const update = await findUpdate(deps.db, id)
  if (update) return update
  throw new AppError('not_found', `There is no update '${id}'. 'GET /admin/updates' lists them.`)
}
