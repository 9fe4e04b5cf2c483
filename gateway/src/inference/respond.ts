import type { Context } from 'hono'
import { openCache } from './cache/open-cache.ts'
import type { KeyedEnv } from '../contracts/context.ts'
import { requireAllowed } from '../keys/allow-list.ts'
import { offerSample } from '../adaptation/sampling/offer-sample.ts'
import { generate } from './generate.ts'
import type { Generation } from '../contracts/generation.ts'

/**
 * Answers an admitted request: with what is kept, where it asks for that, or by a node.
 *
 * An answer that is kept costs nothing: no node, no tokens, no receipt, no limit. Nor is the text sampled: it was when the
 * answer was made.
 *
 * @throws AppError `insufficient_permissions`, or like {@link generate}
 */
export async function respond(c: Context<KeyedEnv>, generation: Generation): Promise<Response> {
  const { deps, key, requestId } = c.var
  const { model, domain, sample, text } = generation
  requireAllowed(key.allowedModels, model.id, 'model', 'model')
  const cache = await openCache(c, generation)
  if (cache?.found) return cache.found
  const wished = cache?.wish ? { ...generation, keep: cache.wish } : generation
  const response = await generate(c, wished, cache?.listener)
  if (cache) response.headers.set('x-copal-cache', cache.status)
  if (sample && text) offerSample(deps, { requestId, keyId: key.id, model: model.id, domain, text: text() })
  return response
}
