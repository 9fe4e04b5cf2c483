import { Hono } from 'hono'
import { embeddingsRequest, inputsOf } from '@copal/shared/wire/embeddings.ts'
import { parseModelName } from '@copal/shared/wire/model-name.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import { readAdmission, readRequestBody } from '../../inference/validation/request-validation.ts'
import { respond } from '../../inference/respond.ts'
import { estimateTokens } from '../../inference/validation/estimate-tokens.ts'

/** Creates `POST /v1/embeddings`; mount it at that path behind `requireKey`. Its texts are never sampled. */
export function embeddingRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>().post('/', async (c) => {
    const { domain, priority } = await readAdmission(c)
    const request = await readRequestBody(c, embeddingsRequest)
    const inputs = inputsOf(request)
    return respond(c, {
      path: '/rpc/embeddings',
      model: parseModelName(request.model),
      domain,
      priority,
      sample: false,
      promptTokens: estimateTokens(inputs),
      maxTokens: 0,
      opening: inputs[0] ?? '',
      request,
    })
  })
}
