import { Hono } from 'hono'
import { embeddingsRequest, inputsOf } from '@copal/shared/wire/embeddings.ts'
import { parseModelName } from '@copal/shared/wire/model-name.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import { admit, readRequest } from '../../inference/validation/admission.ts'
import { respond } from '../../inference/respond.ts'
import { estimateTokens } from '../../inference/validation/estimate-tokens.ts'
import { rejectMethod } from '../../middleware/errors.ts'

/** `POST /v1/embeddings`, mounted at `/v1/embeddings` behind `requireKey`. Its texts are not sampled. */
export function embeddingRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>()
    .post('/', async (c) => {
      const { domain } = admit(c)
      const request = await readRequest(c, embeddingsRequest)
      const inputs = inputsOf(request)
      return respond(c, {
        path: '/rpc/embeddings',
        model: parseModelName(request.model),
        domain,
        sample: false,
        promptTokens: estimateTokens(inputs),
        maxTokens: 0,
        request,
      })
    })
    .all('/', rejectMethod('POST'))
}
