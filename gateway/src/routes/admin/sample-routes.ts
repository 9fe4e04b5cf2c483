import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { deleteSamplesOf } from '../../adaptation/domains/sample-deletion.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { tenantOf } from '../../keys/key-grants.ts'
import { requireQueryParameters } from './query-parameters.ts'

/** Creates the route that deletes samples in all domains. An administrator deletes those of its tenant, the operator all. */
export function sampleRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>().delete('/samples', async (c) => {
    requireQueryParameters(c, ['request', 'key', 'tenant'])
    const { deps, actor } = c.var
    const { request: requestId, key: keyId, tenant } = c.req.query()
    if ((requestId ?? keyId ?? tenant) === undefined)
      throw new AppError(
        'invalid_request',
        "Nothing was deleted: name what to delete with one of the query parameters 'request', 'key' or 'tenant'.",
        { param: 'request' },
      )
    const deleted = await deleteSamplesOf(deps, { requestId, keyId, tenant: tenantOf(actor, tenant) })
    return c.json(deleted satisfies DeletedSamples, deleted.pending.length > 0 ? 202 : 200)
  })
}
