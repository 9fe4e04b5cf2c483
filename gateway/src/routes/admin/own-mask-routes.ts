import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { createOwnMask } from '@copal/shared/wire/admin.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { removeOwnMasks } from '../../adaptation/own-masks/remove-own-masks.ts'
import { createOwnMaskUpdate } from '../../adaptation/updates/own-mask-request.ts'
import { updateEntry } from '../../adaptation/updates/update-entry.ts'
import { beginInRequest } from '../../adaptation/updates/update-requests.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { actorId } from '../../keys/actor-id.ts'
import { readAdminBody } from './admin-body.ts'
import { requireDomain } from './require-domain.ts'
import { requireQueryParameters } from './query-parameters.ts'

/** Creates the routes that make a mask for a single domain, and let the shared one serve it again. */
export function ownMaskRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .post('/domains/:domain/mask', async (c) => {
      const { deps } = c.var
      const domain = await requireDomain(deps, c.req.param('domain'))
      const update = await createOwnMaskUpdate(deps, domain, await readAdminBody(c, createOwnMask))
      deps.waitUntil(beginInRequest(deps, update.id))
      return c.json(updateEntry(update, [], { decisions: [] }), 201)
    })
    .delete('/domains/:domain/mask', async (c) => {
      requireQueryParameters(c, ['model'])
      const { deps, actor } = c.var
      const domain = await requireDomain(deps, c.req.param('domain'))
      const { id } = await findOperatorModel(deps.db, c.req.query('model'))
      const removal = { domain, reason: 'an operator asked for it.' }
      const version = (await removeOwnMasks(deps, id, () => [removal], actorId(deps, actor))).get(domain)
      if (version !== undefined) return c.json({ domain, mask_version: version })
      throw new AppError(
        'not_found',
        `'${domain}' has no mask of its own of '${id}': the shared one serves it.`,
        {
          param: 'domain',
        },
      )
    })
}
