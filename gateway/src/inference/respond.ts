import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { formatModelName } from '@copal/shared/wire/model-name.ts'
import { openCache } from './cache/open-cache.ts'
import type { KeyedEnv } from '../contracts/context.ts'
import { requireAllowed } from '../keys/allow-list.ts'
import { offerSamples } from '../adaptation/sampling/offer-samples.ts'
import { runGeneration } from './run-generation.ts'
import type { Generation } from '../contracts/generation.ts'

/**
 * Responds to an admitted request: from the response cache if the request allows it, otherwise by a node.
 *
 * A cached response costs nothing: no node, no tokens, no receipt, no limit. Its text is not sampled again either: it
 * was sampled when the response was generated.
 *
 * @throws AppError `insufficient_permissions`, or like {@link runGeneration}
 */
export async function respond(c: Context<KeyedEnv>, generation: Generation): Promise<Response> {
  const { deps, key, requestId, domainOwners } = c.var
  const { model, domain, discover, sample, newTexts } = generation
  requireAllowed(key.allowedModels, model.id, 'model', 'model')
  if (model.version !== undefined && (await domainOwners.ofOthers(deps, key.tenant)).includesWeights(model))
    throw new AppError(
      'insufficient_permissions',
      `This key may not use '${formatModelName(model.id, model.version)}': that mask serves a domain of another tenant alone.`,
      { param: 'model' },
    )
  const cache = await openCache(c, generation)
  if (cache?.found) return cache.found
  const cacheTarget = cache?.cacheTarget
  const response = await runGeneration(
    c,
    cacheTarget ? { ...generation, cacheTarget } : generation,
    cache?.listener,
  )
  if (cache) response.headers.set('x-copal-cache', cache.status)
  if (sample && newTexts)
    offerSamples(deps, { requestId, key, model: model.id, domain, discover, texts: newTexts() })
  return response
}
