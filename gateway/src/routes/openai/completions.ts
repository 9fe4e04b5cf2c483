import { Hono } from 'hono'
import { completionRequest, DEFAULT_MAX_TOKENS, promptsOf } from '@copal/shared/wire/completions.ts'
import { parseModelName } from '@copal/shared/wire/model-name.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import { admit, readRequest } from '../../inference/validation/admission.ts'
import { respond } from '../../inference/respond.ts'
import { estimateTokens } from '../../inference/validation/estimate-tokens.ts'
import { promptText } from '../../adaptation/sampling/sample-text.ts'
import { rejectMethod } from '../../middleware/errors.ts'

/** `POST /v1/completions`, mounted at `/v1/completions` behind `requireKey`. */
export function completionRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>()
    .post('/', async (c) => {
      const admission = admit(c)
      const request = await readRequest(c, completionRequest)
      const prompts = promptsOf(request)
      return respond(c, {
        model: parseModelName(request.model),
        path: '/rpc/completions',
        ...admission,
        promptTokens: estimateTokens(prompts),
        prompts: prompts.length,
        choices: prompts.length * (request.n ?? 1),
        maxTokens: request.max_tokens ?? DEFAULT_MAX_TOKENS,
        request,
        // What it has of the others' beginnings says little about the node.
        promptParts: () => prompts.slice(0, 1),
        text: () => promptText(request),
      })
    })
    .all('/', rejectMethod('POST'))
}
