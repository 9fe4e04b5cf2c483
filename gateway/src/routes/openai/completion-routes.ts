import { Hono } from 'hono'
import { completionRequest, DEFAULT_MAX_TOKENS, promptsOf } from '@copal/shared/wire/completions.ts'
import { parseModelName } from '@copal/shared/wire/model-name.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import { readAdmission, readRequestBody } from '../../inference/validation/request-validation.ts'
import { respond } from '../../inference/respond.ts'
import { estimateTokens } from '../../inference/validation/estimate-tokens.ts'
import { promptTexts } from '../../adaptation/sampling/sample-text.ts'

/** Creates `POST /v1/completions`; mount it at that path behind `requireKey`. */
export function completionRoutes(): Hono<KeyedEnv> {
  return new Hono<KeyedEnv>().post('/', async (c) => {
    const admission = await readAdmission(c)
    const request = await readRequestBody(c, completionRequest)
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
      // A node is chosen by the prefix of the first prompt only.
      promptParts: () => prompts.slice(0, 1),
      opening: prompts[0] ?? '',
      newTexts: () => promptTexts(request),
    })
  })
}
